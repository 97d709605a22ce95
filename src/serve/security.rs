//! Who may talk to the ports: Host and Origin checks, and the headers that every answer carries.
