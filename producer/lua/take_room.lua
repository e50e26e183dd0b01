-- Count what the HTTP front keeps among all of it, if there is room for it.
-- args: name, num_bytes, ttl_s, max_bytes, max_files.
-- Members of the set are `NAME:BYTES`, by the time at which each is dropped.
-- Answer: {1, bytes of all}; {0, bytes of the others} if it is one too many.
local key = http_key('room', 'all')
redis.call('ZREMRANGEBYSCORE', key, 0, now)
local own = args.name .. ':' .. string.format('%d', args.num_bytes)
local total, count = 0, 0
for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do
  if member ~= own then
    total = total + tonumber(string.match(member, ':(%d+)$') or 0)
    count = count + 1
  end
end
if total + args.num_bytes > args.max_bytes or count >= args.max_files then return {0, total} end
redis.call('ZADD', key, now + args.ttl_s, own)
local last = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
redis.call('EXPIRE', key, math.ceil(tonumber(last[2]) - now))
return {1, total + args.num_bytes}
