-- Count a job that has just ended: the last command of the transaction that ends it.
-- args: job_id.
count_job(args.job_id)
return 1
