"""The Hub without the Hub: publishing and fetching, through a local server and the real programs."""
