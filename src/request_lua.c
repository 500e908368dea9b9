/*
** request_lua.c - the Lua binding of requests and their replies.
*/
#define _POSIX_C_SOURCE 200809L /* sigaction */

#include "engine.h"

#include <string.h>

#include "sigpipe.h"

/* A larger buffer of a reply is not kept for the next one. */
#define BODY_KEEP (16 * 1024)

static ksms_request *check_request(lua_State *L)
{
    return (ksms_request *)luaL_checkudata(L, 1, KSMS_REQUEST);
}

/* Finalizer: gives up a request that is in flight. Works on a zeroed one, and twice. */
static int request_gc(lua_State *L)
{
    ksms_request *r = check_request(L);
    if (r->state == KSMS_IN_FLIGHT)
        ksms_leave_parent(r->connection->engine);
    if (r->state == KSMS_IN_FLIGHT) {
        ksms_connection *c = r->connection;
        struct sigaction pipe;
        ksms_hold_sigpipe(&pipe);
        ksms_abandon(r, NULL);
        ksms_close_connection(c);
        ksms_release_sigpipe(&pipe);
    }
    ksms_buffer_free(&r->out);
    ksms_reader_release(&r->reader);
    memset(r, 0, sizeof *r);
    return 0;
}

/***
Makes a request, to be started and used again as often as one likes.
@function request
@treturn request
*/
static int l_request(lua_State *L)
{
    ksms_request *r = (ksms_request *)ksms_newuserdata(L, sizeof *r);
    memset(r, 0, sizeof *r);
    ksms_setclass(L, KSMS_REQUEST);
    return 1;
}

/***
Whether a request that was started has finished.
@function request:finished
@treturn boolean
*/
static int request_finished(lua_State *L)
{
    lua_pushboolean(L, check_request(L)->state == KSMS_FINISHED);
    return 1;
}

/***
Whether bytes of the request that was started last may have left.
@function request:started
@treturn boolean
*/
static int request_started(lua_State *L)
{
    lua_pushboolean(L, check_request(L)->starts > 0);
    return 1;
}

static void push_field(lua_State *L, const char *s)
{
    if (s[0] != '\0')
        lua_pushstring(L, s);
    else
        lua_pushnil(L);
}

/* A failure's text; libcurl's own, where it could not connect. */
static const char *failure_text(const ksms_request *r)
{
    if (r->text != NULL)
        return r->text;
    return r->error[0] != '\0' ? r->error : curl_easy_strerror(r->code);
}

/* Raises where a request has no reply, or none any more. */
static void check_finished(lua_State *L, const ksms_request *r)
{
    if (r->state != KSMS_FINISHED)
        luaL_error(L, "this request has no reply");
}

/* Before 5.3 Lua collects before it copies what is pushed, and a finalizer may take this reply
   or start the request anew: the copy is made in memory that nobody else has. */
static void push_bytes(lua_State *L, const ksms_request *r)
{
    const ksms_buffer *body = &r->reader.body;
#if LUA_VERSION_NUM >= 503
    lua_pushlstring(L, body->n > 0 ? body->bytes : "", body->n);
#else
    size_t n = body->n;
    char *copy = (char *)ksms_newuserdata(L, n + 1);
    check_finished(L, r);
    if (n > body->n)
        n = body->n;
    if (n > 0)
        memcpy(copy, body->bytes, n);
    lua_pushlstring(L, copy, n);
    lua_remove(L, -2);
#endif
}

/* Pushes the body; the string at 'likely' itself, where it is the same: one platform says the
   same thing over and over, and a string costs. */
static void push_body(lua_State *L, const ksms_request *r, int likely)
{
    const ksms_buffer *body = &r->reader.body;
    size_t n = 0;
    const char *s = lua_type(L, likely) == LUA_TSTRING ? lua_tolstring(L, likely, &n) : NULL;
    if (s != NULL && n == body->n && n > 0 && memcmp(s, body->bytes, n) == 0)
        lua_pushvalue(L, likely);
    else
        push_bytes(L, r);
}

/***
The reply to a request that has finished; it is handed over once.
@function request:reply
@tparam[opt] string likely what its body is likely to be
@treturn[1] number HTTP status
@treturn[1] string body
@treturn[1] ?string the header Retry-After
@treturn[1] ?string the header Date
@treturn[1] boolean whether the connection had carried a request before
@treturn[2] nil
@treturn[2] string what failed: before a byte left "resolve", "connect", "proxy", "handshake",
  "timeout" or "cancelled"; after that "timeout", "connection_lost" or "bad_response"
@treturn[2] number 0 where no byte has left, else 1
@treturn[2] string text of libcurl's, or ours
@treturn[2] number libcurl's code (a CURLcode), 0 where it is not its failure
@treturn[2] boolean whether the connection had carried a request before
*/
static int request_reply(lua_State *L)
{
    ksms_request *r = check_request(L);
    lua_settop(L, 2);
    check_finished(L, r);
    /* Finalizers may run while strings are made, and where there is no memory for them, the
       reply can be asked for again: until all are there the request stays as it is. */
    if (r->failure == NULL) {
        lua_pushinteger(L, r->reader.head.status);
        push_body(L, r, 2);
        push_field(L, r->reader.head.retry_after);
        push_field(L, r->reader.head.date);
        lua_pushboolean(L, r->reused);
    } else {
        if (r->starts == 0 && r->code == CURLE_OUT_OF_MEMORY)
            return ksms_no_memory(L);
        lua_pushnil(L);
        lua_pushstring(L, r->failure);
        lua_pushinteger(L, r->starts);
        lua_pushstring(L, failure_text(r));
        lua_pushinteger(L, (lua_Integer)r->code);
        lua_pushboolean(L, r->reused);
    }
    /* Not where a finalizer has started it anew. */
    if (r->state == KSMS_FINISHED) {
        r->state = KSMS_UNUSED;
        if (r->reader.body.size > BODY_KEEP)
            ksms_reader_release(&r->reader);
    }
    return lua_gettop(L) - 2;
}

/***
The next of many requests that has finished and whose reply was not handed over yet.
@function next_finished
@tparam table requests an array of requests
@tparam number after a place in it; 0 to begin
@treturn ?number the place of the first one behind that
*/
static int l_next_finished(lua_State *L)
{
    int i, n;
    luaL_checktype(L, 1, LUA_TTABLE);
    i = (int)luaL_checkinteger(L, 2);
    n = (int)ksms_rawlen(L, 1);
    lua_settop(L, 2);
    luaL_getmetatable(L, KSMS_REQUEST);
    while (++i <= n) {
        const ksms_request *r;
        lua_rawgeti(L, 1, i);
        r = (const ksms_request *)lua_touserdata(L, -1);
        if (r == NULL || !lua_getmetatable(L, -1) || !lua_rawequal(L, -1, 3))
            return luaL_error(L, "bad argument #1 to 'next_finished' (requests expected)");
        if (r->state == KSMS_FINISHED) {
            lua_pushinteger(L, i);
            return 1;
        }
        lua_settop(L, 3);
    }
    return 0;
}

static const luaL_Reg methods[] = {
    {"finished", request_finished},
    {"reply", request_reply},
    {"started", request_started},
    {NULL, NULL},
};

static const luaL_Reg functions[] = {
    {"request", l_request},
    {"next_finished", l_next_finished},
    {NULL, NULL},
};

void ksms_open_request_class(lua_State *L)
{
    ksms_newclass(L, KSMS_REQUEST, methods, request_gc);
    ksms_setfuncs(L, functions);
}
