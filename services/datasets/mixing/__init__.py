"""One data set of many: how much of each, what is repeated or examined left out, tools and names changed, no-call talk."""
