"""Programs that nobody vouches for, played in processes that can do nothing but play."""
