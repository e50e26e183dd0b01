-- Drop the entries at the heads of queues whose jobs do not wait any more: cancelled or expired ones. Who
-- claims from a queue does so as well, but of a model that no worker has nobody claims.
local MAX_DROPPED = 1000
local num_dropped = 0
for _, queue in ipairs(farm_queues(args.farm)) do
  local key = queue_key(queue)
  local job_id = redis.call('LINDEX', key, 0)
  while job_id and num_dropped < MAX_DROPPED and job_fields(job_id, 'status')[1] ~= 'queued' do
    redis.call('LPOP', key)
    num_dropped = num_dropped + 1
    job_id = redis.call('LINDEX', key, 0)
  end
end
return num_dropped
