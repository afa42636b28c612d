"""What begins runs by itself: clocks, webhooks, subjects, alarms."""
