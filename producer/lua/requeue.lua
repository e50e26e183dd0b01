-- Enqueue failed jobs again, under the same ids. A job that is not at an end any more is left
-- alone, so two people may do this at once.
-- args: job_ttl_s, job_ids. Answer: 1 or 0 for each job.
local answer = {}
for i, job_id in ipairs(args.job_ids) do
  local job = job_key(job_id)
  local status, queue = unpack(job_fields(job_id, 'status', 'origin'))
  answer[i] = 0
  if ENDED_BADLY[status or ''] and queue then
    leave_registries_of_ended(job_id, queue)
    redis.call('DEL', result_key(job_id), progress_key(job_id), checkpoint_key(job_id),
      rq_results_key(job_id))
    redis.call('HDEL', job, 'code', 'audio_s', 'num_flagged', 'started_at', 'ended_at', 'cancel',
      'worker_name', 'fence', 'audio_sha256')
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', stamp(now))
    redis.call('EXPIRE', job, args.job_ttl_s)
    redis.call('RPUSH', queue_key(queue), job_id)
    count_job(job_id)
    answer[i] = 1
  end
end
return answer
