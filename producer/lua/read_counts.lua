-- Answer a batch's counts, or count the next args.limit files anew: at the first look at a batch of
-- an earlier version, when the counts are marked dirty, once a day unless it is too large, or if
-- args.anew. Readers share one count, which goes on from its cursor; who moves a job meanwhile
-- counts it in the new epoch if its turn has come, and else its turn will come.
-- args: batch, limit, max_age_s, most_daily (files), anew, doubt (mark them dirty).
-- Answer: {"unknown"}, {"counting"}: ask again, without anew and doubt, or {"ok", {field, value, ...}}.
local MAX_SHARE = 20
local key = counts_key(args.batch)

local function is_due()
  local counts = redis.call('HMGET', key, 'epoch', 'counted_at', 'dirty', 'count_took_ms')
  if args.anew or not counts[1] or not counts[2] then return true end
  local age_ms = now_ms - counts[2]
  -- Counting a batch that is always dirty must not take more than a twentieth of the time.
  local is_dirty = counts[3] and age_ms >= MAX_SHARE * (tonumber(counts[4] or nil) or 0)
  if is_dirty then return true end
  return age_ms > args.max_age_s * 1000 and redis.call('HLEN', batch_key(args.batch)) <= args.most_daily
end

local function begin()
  begin_epoch(args.batch)
  redis.call('HSET', key, 'cursor', '0', 'count_from', string.format('%d', now_ms))
  redis.call('HSETNX', key, 'began_at', string.format('%d', now_ms))
  local ttl_s = redis.call('TTL', batch_key(args.batch))
  if ttl_s > 0 then redis.call('EXPIRE', key, ttl_s) end
end

local function count_page()
  local cursor, files = unpack(redis.call('HSCAN', batch_key(args.batch), field(key, 'cursor'),
    'COUNT', args.limit))
  for i = 2, #files, 2 do
    join_batch(files[i], args.batch)
  end
  redis.call('HSET', key, 'cursor', cursor)
  return cursor == '0'
end

if redis.call('EXISTS', batch_key(args.batch)) == 0 then return {'unknown'} end
if args.doubt then mark_dirty(args.batch) end
if is_due() then
  if args.anew or not field(key, 'cursor') then begin() end
  if not count_page() then return {'counting'} end
  redis.call('HDEL', key, 'cursor')
  redis.call('HSET', key, 'counted_at', string.format('%d', now_ms), 'count_took_ms',
    string.format('%d', now_ms - number_of(key, 'count_from')))
end
return {'ok', redis.call('HGETALL', key)}
