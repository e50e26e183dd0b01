-- Set one job aside that this execution still owns and cannot end. Answer: 1, or 0 if fenced off.
if not holds(args.job_id, args.execution_id) then
  forget(args.job_id, args.execution_id, args.queue, args.worker)
  return 0
end
set_aside(args.job_id, args.execution_id, args.queue, args.worker)
return 1
