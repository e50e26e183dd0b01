-- Count a job that has just ended: the last command of the transaction that ends it.
-- args: job_id, ended (as count_end takes it).
count_job(args.job_id)
count_end(args.ended)
return 1
