"""What browsers and guests reach: the pages, the WebSocket, and how they are found."""
