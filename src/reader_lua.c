/*
** reader_lua.c - the Lua binding of the reader of HTTP/1.1 replies, for transports without libcurl.
*/
#include <string.h>

#include "koresms.h"
#include "reader.h"

#define CLASS       "koresms.reader"
#define CAP_DEFAULT 1048576.0    /* 1 MiB */
#define CAP_MAX     1073741824.0 /* 1 GiB: fits size_t and leaves room to double */

/* What Lua holds. */
typedef struct lua_reader {
    ksms_reader reader;
    int taken; /* the reply was asked for */
} lua_reader;

/* Expects the reader at 1. */
static lua_reader *check_reader(lua_State *L)
{
    return (lua_reader *)luaL_checkudata(L, 1, CLASS);
}

static ksms_reader *self(lua_State *L)
{
    return &check_reader(L)->reader;
}

/* Leaves "more" or "done", or nil, text and code of the failure. */
static int answer(lua_State *L, const ksms_reader *r)
{
    if (r->state < KSMS_DONE) {
        lua_pushliteral(L, "more");
        return 1;
    }
    if (r->state == KSMS_DONE) {
        lua_pushliteral(L, "done");
        return 1;
    }
    lua_pushstring(L, r->text);
    return ksms_fail(L, r->state == KSMS_LOST ? "connection_lost" : "bad_response");
}

/***
Takes the next bytes of the reply. Bytes after its end make the connection unfit for
another request; after a failure the same failure is returned again.
@function reader:feed
@tparam string bytes any number of bytes, none included
@treturn[1] string "more" or "done"
@treturn[2] nil
@treturn[2] string why the reply is refused
@treturn[2] string the code "bad_response"
*/
static int l_feed(lua_State *L)
{
    ksms_reader *r = self(L);
    size_t n;
    const char *s;
    luaL_checktype(L, 2, LUA_TSTRING);
    s = lua_tolstring(L, 2, &n);
    ksms_reader_feed(r, s, n);
    return answer(L, r);
}

/***
Says that no more bytes will come, because the peer closed or the caller gives up.
@function reader:eof
@treturn[1] string "done", where the reply is complete
@treturn[2] nil
@treturn[2] string where the reply broke off, or why it was refused before
@treturn[2] string the code "connection_lost" or "bad_response"
*/
static int l_eof(lua_State *L)
{
    ksms_reader *r = self(L);
    ksms_reader_end(r);
    return answer(L, r);
}

static void push_text(lua_State *L, const char *text)
{
    if (text[0] != '\0')
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
}

/***
Takes the reply out of the reader; raises unless it is complete. The body is handed over
once: a second call finds it empty.
@function reader:result
@treturn number HTTP status
@treturn string body
@treturn ?string value of the header Retry-After
@treturn ?string value of the header Date
@treturn boolean whether the connection may carry another request
*/
static int l_result(lua_State *L)
{
    lua_reader *l = check_reader(L);
    ksms_reader *r = &l->reader;
    int first = !l->taken;
    if (r->state != KSMS_DONE)
        return luaL_error(L, "the reply is not complete");
    /* Pushing may run a finalizer that asks for this reply, too, or may raise: the buffer
       stays until all is pushed, and in the second case for the next call. */
    l->taken = 1;
    lua_pushinteger(L, r->head.status);
    lua_pushlstring(L, r->body.n > 0 ? r->body.bytes : "", r->body.n);
    push_text(L, r->head.retry_after);
    push_text(L, r->head.date);
    lua_pushboolean(L, r->reusable);
    r->body.n = 0;
    /* The collector does not know how large the buffers are: do not wait for it. */
    if (first)
        ksms_reader_release(r);
    return 5;
}

/* Finalizer; also works on a reader that is all zero, and twice. */
static int l_gc(lua_State *L)
{
    ksms_reader_release(self(L));
    return 0;
}

/***
Makes a reader for one reply.
@function reader
@tparam[opt=1048576] number cap largest body that is taken, in bytes
@treturn userdata the reader
*/
static int l_reader(lua_State *L)
{
    lua_Number cap = luaL_optnumber(L, 1, CAP_DEFAULT);
    lua_reader *l;
    luaL_argcheck(L, cap >= 0 && cap <= CAP_MAX, 1, "out of range");
    l = (lua_reader *)ksms_newuserdata(L, sizeof *l);
    memset(l, 0, sizeof *l);
    ksms_setclass(L, CLASS);
    ksms_reader_start(&l->reader, (size_t)cap);
    return 1;
}

void ksms_open_reader(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"feed", l_feed},
        {"eof", l_eof},
        {"result", l_result},
        {NULL, NULL},
    };
    ksms_newclass(L, CLASS, methods, l_gc);
    lua_pushcfunction(L, l_reader);
    lua_setfield(L, -2, "reader");
}
