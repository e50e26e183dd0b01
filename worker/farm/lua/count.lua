-- Count a job that has just ended: the last command of the transaction that ends it.
-- args: job_id, ended (as count_end takes it).
local batches, counted = count_job(args.job_id)
count_end(args.ended)
local state, audio_ms = string.match(counted, '^(%a+):?(%d*)')
if state == 'succeeded' or state == 'failed' then count_work(state, 1) end
-- Of a job in a batch `count_job` did that.
if state == 'succeeded' and not next(batches) then
  count_audio(args.job_id, batches, tonumber(audio_ms) or 0)
end
return 1
