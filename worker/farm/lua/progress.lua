-- Store how far a job is and from where another worker could go on, if this execution still owns
-- it. Progress clears the suspicion that the recording kills its workers, and the tries spent.
-- KEYS: progress hash, checkpoint. Answer: 1 if stored, 0 if the execution is fenced off.
if not holds(args.job_id, args.execution_id) then return 0 end
for field, value in pairs(args.progress) do redis.call('HSET', KEYS[1], field, value) end
redis.call('HSET', KEYS[1], 'updated_at', string.format('%.3f', now))
redis.call('EXPIRE', KEYS[1], args.ttl_s)
if ARGV[3] ~= '' then
  redis.call('SET', KEYS[2], ARGV[3], 'EX', args.ttl_s)
  redis.call('HDEL', job_key(args.job_id), 'deaths', 'tries')
end
return 1
