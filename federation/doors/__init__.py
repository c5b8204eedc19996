"""HTTP at the coordinator: signed requests of member sites. Mounted in the coordinator's role only."""
