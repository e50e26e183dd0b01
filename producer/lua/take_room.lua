-- Count an upload among those that are kept, if there is room for it.
-- args: sha256, num_bytes, ttl_s, max_bytes, max_files.
-- Members of the set are `SHA256:BYTES`, by the time at which each is dropped.
-- Answer: {1, bytes of all}; {0, bytes of the others} if it is one too many.
local key = http_key('room', 'all')
redis.call('ZREMRANGEBYSCORE', key, 0, now)
local own = args.sha256 .. ':' .. string.format('%d', args.num_bytes)
local total, count = 0, 0
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if member ~= own then
    total = total + tonumber(string.match(member, ':(%d+)$') or 0)
    count = count + 1
  end
end
if total + args.num_bytes > args.max_bytes or count >= args.max_files then return {0, total} end
redis.call('ZADD', key, now + args.ttl_s, own)
redis.call('EXPIRE', key, math.ceil(args.ttl_s))
return {1, total + args.num_bytes}
