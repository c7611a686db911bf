"""What `conductor start` leaves behind; standard library only."""
