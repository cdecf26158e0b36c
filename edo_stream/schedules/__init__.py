"""When something is due: cron expressions, intervals, time zones, calendars. Pure, no clock."""
