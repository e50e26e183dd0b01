-- Tell of workers whose leases have run out.
-- args: names (of those alone). Answer: who was told of now; others have told of the rest.
return tell_of_lost()
