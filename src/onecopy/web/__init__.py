"""`onecopy web`: a page that shows pools in a browser. See docs/web.md.

It needs the packages Starlette and uvicorn: ``pip install 'onecopy[web]'``.

`server` has the application, `guard` decides which requests are answered, `watching` takes
snapshots and limits their cost, `view` makes JSON of them, `visiting` joins pools in order to read
streams. The page itself is in ``static``.
"""
