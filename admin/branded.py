"""What an account's look is made of, as files: its style sheet and its logo.

Both are named by their content and stand among the static files: anybody may fetch them, whoever asks gets the same,
and a browser may keep them for ever. Neither says which account has it.
"""

from aiohttp import hdrs, web

from admin.context import DATABASE
from engine.accounts.branding import logo_named
from engine.accounts.colours import is_colour, style_sheet

MAX_NAME = 60
# a picture that is opened by itself is a document: it may load nothing, run nothing and ask for nothing
LOGO_POLICY = "default-src 'none'; sandbox"


async def get_style_sheet(request: web.Request) -> web.Response:
    """The colours that go over the pages' own, of any colour."""
    colour = f"#{request.match_info['colour']}"
    if not is_colour(colour):
        raise web.HTTPNotFound
    return web.Response(text=style_sheet(colour), content_type="text/css")


async def get_logo(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if len(name) > MAX_NAME:
        raise web.HTTPNotFound
    async with request.app[DATABASE].sessions() as session:
        logo = await logo_named(session, name)
    if logo is None:
        raise web.HTTPNotFound
    headers = {"Content-Security-Policy": LOGO_POLICY, hdrs.ETAG: f'"{logo.name}"'}
    return web.Response(body=logo.content, content_type=logo.media_type, headers=headers)
