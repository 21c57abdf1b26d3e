"""THE TEAM'S: the compose stack, scheduler and worker services, the webhook."""
