"""A first application: text, JSON with a parameter and a query, and a handler that takes its time.

Serve it with ``ushabti examples.hello:router``, or run this file.
"""

import time

from ushabti import HTTPError, Request, Router, Server

router = Router()

USERS = {1: "Ani", 2: "Tutu", 3: "Hunefer"}


@router.get("/")
def hello(request: Request) -> str:
    return "The shabti answers: here I am.\n"


@router.get("/users/{number:int}")
def user(request: Request, number: int) -> dict[str, object]:
    """``/users/1?greeting=Hail``: the path's parameter comes converted, the query is in the request."""
    if number not in USERS:
        raise HTTPError(404, f"no user {number}")
    greeting = request.query.get("greeting", "Hello")
    return {"id": number, "name": USERS[number], "message": f"{greeting}, {USERS[number]}!"}


@router.get("/slow")
def slow(request: Request) -> str:
    """Blocks its thread for a second; the others go on answering."""
    time.sleep(1)
    return "Done at last.\n"


if __name__ == "__main__":
    Server(router).serve(port=8080)
