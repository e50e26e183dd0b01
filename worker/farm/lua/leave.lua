-- This worker ends in order. args: was_asked (it drained; false: the queues were empty, or it failed).
forget_worker(args.worker, args.was_asked)
return 1
