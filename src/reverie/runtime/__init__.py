"""What any object that lives in a process needs: waits, forks, exit, checks of arguments."""
