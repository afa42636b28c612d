"""Files to text: one loader a format. They read what strangers wrote, so they run in a process of their own (worker)."""
