-- This worker ends in order, or because its engine is broken: then it counts as lost at once.
-- args: was_asked (it drained; false: the queues were empty), broken_by (code of the engine's error).
if args.broken_by then
  lose(args.worker, now, args.broken_by)
else
  forget_worker(args.worker, args.was_asked)
end
return 1
