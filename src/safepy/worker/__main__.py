"""`python -m safepy.worker`: started by the daemon with the control socket as descriptor 3."""

from safepy.worker.main import main

if __name__ == "__main__":
    main()
