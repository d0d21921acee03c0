"""An asyncio web service: worker processes examine the pictures that are uploaded.

python service.py [--port 8000] [--workers 2]
curl --data-binary @photo.jpg http://127.0.0.1:8000/pictures
"""

import argparse
import contextlib
import os
import socket
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.routing import Route

import onecopy as oc

LARGEST = 64 * 1024 * 1024  # bytes of a request


def examine(file: np.ndarray) -> dict:
    """Find the size, the mean color and the sharpness of a picture. This runs in a worker."""
    picture = cv2.imdecode(np.array(file), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("this is not a picture that OpenCV can read")
    height, width = picture.shape[:2]
    blue, green, red = picture.reshape(-1, 3).mean(axis=0).round().astype(int).tolist()
    sharpness = cv2.Laplacian(picture, cv2.CV_64F).var()
    return {
        "size": [width, height],
        "color": [red, green, blue],
        "sharpness": round(float(sharpness), 1),
        "pid": os.getpid(),
    }


async def post_picture(request):
    size = int(request.headers.get("content-length", 0))
    if not 0 < size <= LARGEST:
        return JSONResponse({"error": f"send 1 to {LARGEST} bytes, with Content-Length"}, 413)
    try:
        file = oc.empty(size, "u1")
        filled = 0
        async for chunk in request.stream():  # the one copy: from the socket into shared memory
            file[filled : filled + len(chunk)] = np.frombuffer(chunk, "u1")
            filled += len(chunk)
        return JSONResponse(await request.app.state.executor.submit(examine, file))
    except ClientDisconnect:
        return JSONResponse({"error": "the client has gone"}, 400)
    except oc.PoolFull:
        return JSONResponse({"error": "too many pictures at once; try again"}, 503)
    except ValueError as error:
        return JSONResponse({"error": str(error)}, 400)
    except BrokenProcessPool as error:  # three workers died of this picture
        return JSONResponse({"error": str(error)}, 500)


@contextlib.asynccontextmanager
async def lifespan(app):
    with oc.Executor(app.state.workers, restart_workers=True) as app.state.executor:
        yield


app = Starlette(routes=[Route("/pictures", post_picture, methods=["POST"])], lifespan=lifespan)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    app.state.workers = options.workers
    listening = socket.create_server(("127.0.0.1", options.port))
    print(f"listening on port {listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])
