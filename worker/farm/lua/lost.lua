-- Tell of workers whose leases have run out, once.
tell_of_lost()
return 1
