"""Objects of a pool for processes on other hosts, by Arrow Flight.

>>> with oc.serve(pool, "grpc+tls://10.0.0.5:0", tls=tls) as server:  # doctest: +SKIP
...     url = server.ticket(array)
>>> ref = oc.fetch(url, tls=tls)  # on another host  # doctest: +SKIP

They need the package pyarrow with Flight: ``pip install 'onecopy[flight]'``.
docs/design/0029-flight.md says what a ticket holds, and what each failure leaves.
"""

from onecopy.flight.fetching import fetch
from onecopy.flight.server import FlightServer, serve

__all__ = ["FlightServer", "fetch", "serve"]
