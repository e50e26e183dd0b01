-- Store how far a job is and from where another worker could go on, if this execution still owns
-- it. Progress clears the suspicion that the recording kills its workers, and the tries spent.
-- ARGV[2]: the checkpoint, "" for none. Answer: 1 if stored, 0 if the execution is fenced off.
if not holds(args.job_id, args.execution_id) then return 0 end
local progress = progress_key(args.job_id)
for field, value in pairs(args.progress) do write_own('HSET', progress, field, value) end
write_own('HSET', progress, 'updated_at', string.format('%.3f', now))
redis.call('EXPIRE', progress, args.ttl_s)
local batches = batches_of(args.job_id)
for batch in pairs(batches) do touch(batch) end
count_audio(args.job_id, batches, 1000 * (tonumber(args.progress.seconds_done) or 0))
if ARGV[2] ~= '' then
  redis.call('SET', checkpoint_key(args.job_id), ARGV[2], 'EX', args.ttl_s)
  redis.call('HDEL', job_key(args.job_id), 'deaths', 'excused', 'death_log',
    'tries')
end
return 1
