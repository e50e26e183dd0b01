-- The last file of a submission is in: if all of its run has ended by now, the batch is done.
-- args: batch.
redis.call('DEL', submitting_key(args.batch))
if number_of(counts_key(args.batch), 'ended') > 0 then tell_if_done(args.batch) end
return 1
