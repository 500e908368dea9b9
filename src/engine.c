/*
** engine.c - opens koresms.curl: requests in, replies out, over libcurl. It
** knows no policy: it says what came back, whether request bytes began to
** leave, and how far a failure got. What has ended is collected by an explicit
** call, so that libcurl never calls into Lua.
*/
#define _GNU_SOURCE             /* dladdr, RTLD_NODELETE, sigaction */

#include <dlfcn.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "fork.h"
#include "request.h"

#define ENGINE              "koresms.engine"

/* A caller that stays away longer than this between two steps (seconds) has
   its requests wait for it: their clock stands still meanwhile. */
#define ABSENCE             0.05

/* libcurl counts whole milliseconds, on a clock of its own. */
#define ROUNDING            0.002

/*
** libcurl is told to leave signals alone. Before 7.87 OpenSSL then wrote to
** sockets in a way that raises SIGPIPE where the peer is gone, which ends a
** program that does not expect it; elsewhere no flag of 'send' prevents it.
*/
#ifndef KSMS_HOLD_SIGPIPE
#if !KSMS_CURL_GE(87, 0) || !defined(MSG_NOSIGNAL)
#define KSMS_HOLD_SIGPIPE   1
#else
#define KSMS_HOLD_SIGPIPE   0
#endif
#endif

static void hold_sigpipe(struct sigaction *old)
{
#if KSMS_HOLD_SIGPIPE
    struct sigaction ignore;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &ignore, old);
#else
    (void)old;
#endif
}

static void release_sigpipe(const struct sigaction *old)
{
#if KSMS_HOLD_SIGPIPE
    (void)sigaction(SIGPIPE, old, NULL);
#else
    (void)old;
#endif
}

/*
** The first call in a forked child: the connections are the parent's. Their
** descriptors are closed here, which the peer does not see, and the handles
** are left alone, since to clean them up would say goodbye in their name.
** What was in flight may still be sent by the parent: nobody knows here.
*/
static void leave_parent(engine *e)
{
    int i;
    ksms_close_sockets(e);
    e->multi = NULL;
    e->way->forget(e);
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->state == KSMS_FLYING) {
            s->starts = 1;
            s->lost = "this process was forked while the request was under way";
            ksms_finish(s, CURLE_RECV_ERROR);
        }
    }
}

/* NULL, or what keeps the engine from being used in this process. */
static const char *enter(engine *e)
{
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
    if (e->multi == NULL) {
        if ((e->multi = ksms_new_multi()) == NULL)
            return "libcurl gave no multi handle";
        e->forks = ksms_forks;
    }
    return NULL;
}

/* Frees all that a process owns; works on a zeroed engine and twice. */
static void shut(engine *e)
{
    struct sigaction pipe;
    int i;
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
    hold_sigpipe(&pipe);
    if (e->way != NULL)
        e->way->shut(e);
    if (e->multi != NULL)
        (void)curl_multi_cleanup(e->multi);
    release_sigpipe(&pipe);
    for (i = 0; i < e->count; i++) {
        ksms_wipe(&e->slots[i]->out);
        ksms_reader_release(&e->slots[i]->reader);
        free(e->slots[i]);
    }
    free(e->slots);
    free(e->sockets);
    curl_url_cleanup(e->url);
    free(e->head.bytes);
    free(e->proxy);
    free(e->ca_file);
    free(e->client_cert);
    free(e->client_key);
    memset(e, 0, sizeof *e);
}

/* The engine at 1; raises where it was closed. */
static engine *open_engine(lua_State *L)
{
    engine *e = (engine *)luaL_checkudata(L, 1, ENGINE);
    if (e->way == NULL)
        luaL_error(L, "this engine was closed");
    return e;
}

/* The same, rid of what is a parent's. Without a multi handle nothing flies. */
static engine *check_engine(lua_State *L)
{
    engine *e = open_engine(L);
    (void)enter(e);
    return e;
}

/* Finalizer and `close`: leaves nothing. */
static int engine_close(lua_State *L)
{
    shut((engine *)luaL_checkudata(L, 1, ENGINE));
    return 0;
}

/* Copies a string option into '*to'; nil leaves it NULL. */
static void copy_option(lua_State *L, const char *name, char **to)
{
    size_t n;
    const char *s;
    lua_getfield(L, 1, name);
    if (!lua_isnil(L, -1)) {
        s = luaL_checklstring(L, -1, &n);
        if (strlen(s) != n)
            luaL_error(L, "option '%s' has a NUL byte", name);
        if ((*to = (char *)malloc(n + 1)) == NULL)
            luaL_error(L, "not enough memory");
        memcpy(*to, s, n + 1);
    }
    lua_pop(L, 1);
}

/* Appends a part of the URL to the head; 0 where there is no memory. */
static int add_part(engine *e, CURLUPart what, const char *before)
{
    char *part = NULL;
    CURLUcode rc = curl_url_get(e->url, what, &part, CURLU_NO_DEFAULT_PORT);
    int ok;
    if (rc == CURLUE_NO_PORT)
        return 1;
    ok = rc == CURLUE_OK
        && ksms_buffer_add(&e->head, before, strlen(before))
        && ksms_buffer_add(&e->head, part, strlen(part));
    curl_free(part);
    return ok;
}

/* Is the URL one of https? */
static int is_secure(const engine *e)
{
    char *scheme = NULL;
    int secure = 1;
    if (curl_url_get(e->url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK)
        secure = strcmp(scheme, "http") != 0;
    curl_free(scheme);
    return secure;
}

/* Reads the option 'url', and writes the head of every request up to the token. */
static void set_url(lua_State *L, engine *e)
{
    static const char fields[] = "\r\n" KSMS_FIELDS_TEXT "auth: ";
    lua_getfield(L, 1, "url");
    if ((e->url = curl_url()) == NULL)
        luaL_error(L, "not enough memory");
    if (curl_url_set(e->url, CURLUPART_URL, luaL_checkstring(L, -1),
                     CURLU_PATH_AS_IS) != CURLUE_OK)
        luaL_error(L, "option 'url' is no URL");
    if (!add_part(e, CURLUPART_PATH, "POST ")
        || !add_part(e, CURLUPART_HOST, " HTTP/1.1\r\nHost: ")
        || !add_part(e, CURLUPART_PORT, ":")
        || !ksms_buffer_add(&e->head, fields, sizeof fields - 1))
        luaL_error(L, "not enough memory");
    lua_pop(L, 1);
}

/*
** engine(options): options is a table with url, cap (bytes), max_idle
** (seconds), http2 (boolean), proxy, ca_file, client_cert, client_key.
** Leaves the engine, or nil and a text where this libcurl has no HTTP/2.
*/
static int l_engine(lua_State *L)
{
    const curl_version_info_data *about = curl_version_info(CURLVERSION_NOW);
    engine *e;
    int http2;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "http2");
    http2 = lua_toboolean(L, -1);
    lua_settop(L, 1);
    if (http2 && !(about->features & CURL_VERSION_HTTP2)) {
        lua_pushnil(L);
        lua_pushfstring(L, "libcurl %s was built without HTTP/2", about->version);
        return 2;
    }
    e = (engine *)ksms_newuserdata(L, sizeof *e);
    memset(e, 0, sizeof *e);
    ksms_setclass(L, ENGINE);
    e->way = http2 ? &ksms_transfer : &ksms_wire;
    set_url(L, e);
    copy_option(L, "proxy", &e->proxy);
    copy_option(L, "ca_file", &e->ca_file);
    copy_option(L, "client_cert", &e->client_cert);
    copy_option(L, "client_key", &e->client_key);
    e->direct = !is_secure(e)
        && (e->proxy == NULL || strncmp(e->proxy, "https:", 6) != 0);
    lua_getfield(L, 1, "cap");
    e->cap = (size_t)luaL_checknumber(L, -1);
    lua_getfield(L, 1, "max_idle");
    e->max_idle = luaL_checknumber(L, -1);
    lua_settop(L, 2);
    return 1;
}

/* Makes a free slot fly; NULL, or why nothing left. */
static const char *launch(slot *s)
{
    engine *e = s->owner;
    struct sigaction pipe;
    const char *fault;
    s->starts = 0;
    s->fault = s->lost = NULL;
    s->phase = "connect";
    s->error[0] = '\0';
    ksms_reader_start(&s->reader, e->cap);
    s->state = KSMS_FLYING;
    e->flying++;
    hold_sigpipe(&pipe);
    fault = e->way->launch(s);
    release_sigpipe(&pipe);
    if (fault != NULL)
        e->flying--;
    return fault;
}

/*
** engine:submit(token, body, timeout, connect_timeout): starts one POST; both
** times in seconds. Leaves its ticket, a small integer, or nil and a text
** where it could not be started (nothing left then).
*/
static int engine_submit(lua_State *L)
{
    engine *e = open_engine(L);
    size_t token_len, body_len;
    const char *token = luaL_checklstring(L, 2, &token_len);
    const char *body = luaL_checklstring(L, 3, &body_len);
    double timeout = luaL_checknumber(L, 4);
    double connect = luaL_checknumber(L, 5) * 1000;
    const char *fault;
    slot *s;
    luaL_argcheck(L, ksms_is_token(token, token_len), 2,
                  "a token has visible ASCII characters only");
    luaL_argcheck(L, body_len <= KSMS_REQUEST_MAX, 3, "too long for a message");
    fault = enter(e);
    if (fault == NULL && (s = ksms_new_slot(e)) == NULL)
        fault = "not enough memory";
    if (fault == NULL) {
        s->begun = ksms_monotonic();
        s->deadline = s->begun + timeout;
        s->connect_timeout = connect < 1 ? 1 : connect > 1e9 ? 1000000000L
                                                             : (long)connect;
        fault = e->way->fill(s, token, token_len, body, body_len)
              ? launch(s) : "not enough memory";
        if (fault == NULL) {
            lua_pushinteger(L, s->number);
            return 1;
        }
        ksms_free_slot(s);
    }
    lua_pushnil(L);
    lua_pushstring(L, fault);
    return 2;
}

/*
** The caller was busy elsewhere while answers waited. What the requests lost
** by that is given back to them, so that nothing times out which nobody read.
*/
static void make_up(engine *e)
{
    double now = ksms_monotonic();
    int i;
    if (e->flying == 0 || e->left == 0 || now - e->left < ABSENCE)
        return;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        double lost = now - (s->begun > e->left ? s->begun : e->left);
        if (s->state == KSMS_FLYING && lost >= ABSENCE) {
            s->deadline += lost;
            e->way->extend(s, (long)(lost * 1000));
        }
    }
}

/*
** engine:step(seconds): moves every request on; waits up to 'seconds' where
** none has ended yet, without using the CPU. Leaves true where there is
** something to take.
*/
static int engine_step(lua_State *L)
{
    engine *e = check_engine(L);
    double ms = ceil((double)luaL_checknumber(L, 2) * 1000);
    struct sigaction pipe;
    make_up(e);
    hold_sigpipe(&pipe);
    if (e->multi != NULL)
        e->way->move(e, ms);
    else if (e->ended == NULL)
        (void)poll(NULL, 0, ms > 1e9 ? 1000000000 : (int)ms);
    release_sigpipe(&pipe);
    e->left = ksms_monotonic();
    lua_pushboolean(L, e->ended != NULL);
    return 1;
}

static const char *failure_text(const slot *s)
{
    if (s->fault != NULL)
        return s->fault;
    if (s->lost != NULL)
        return s->lost;
    return s->error[0] != '\0' ? s->error : curl_easy_strerror(s->code);
}

static void push_field(lua_State *L, const char *s)
{
    if (s[0] != '\0')
        lua_pushstring(L, s);
    else
        lua_pushnil(L);
}

/* Pushes the body; the string at 'likely' itself, where it is the same. */
static void push_body(lua_State *L, const ksms_buffer *body, int likely)
{
    size_t n = 0;
    const char *s = lua_type(L, likely) == LUA_TSTRING
                  ? lua_tolstring(L, likely, &n) : NULL;
    if (s != NULL && n == body->n && n > 0 && memcmp(s, body->bytes, n) == 0)
        lua_pushvalue(L, likely);
    else
        lua_pushlstring(L, body->n > 0 ? body->bytes : "", body->n);
}

/*
** engine:take(likely): the next request that has ended. Leaves nothing where
** there is none. For a reply it leaves ticket, 0, status, body, Retry-After or
** nil, Date or nil, starts; the body is the string 'likely' itself where they
** are equal, since one platform says the same thing over and over and a string
** costs. For a failure it leaves ticket, libcurl's code, text, starts, phase,
** refused (true where a reply was refused for what it held), late (true where
** the deadline has passed).
*/
static int engine_take(lua_State *L)
{
    engine *e = check_engine(L);
    slot *s = e->ended;
    if (s == NULL)
        return 0;
    lua_settop(L, 2);
    lua_pushinteger(L, s->number);
    lua_pushinteger(L, (lua_Integer)s->code);
    if (s->code == CURLE_OK) {
        lua_pushinteger(L, s->reader.head.status);
        push_body(L, &s->reader.body, 2);
        push_field(L, s->reader.head.retry_after);
        push_field(L, s->reader.head.date);
        lua_pushinteger(L, s->starts);
    } else {
        lua_pushstring(L, failure_text(s));
        lua_pushinteger(L, s->starts);
        lua_pushstring(L, s->phase);
        lua_pushboolean(L, s->fault != NULL);
        lua_pushboolean(L, ksms_monotonic() >= s->deadline - ROUNDING);
    }
    e->ended = s->next;
    ksms_free_slot(s);
    return lua_gettop(L) - 2;
}

/*
** engine:cancel(ticket): gives up a request that has not ended. Leaves the
** number of its starts; nil where no such request is in the air.
*/
static int engine_cancel(lua_State *L)
{
    engine *e = check_engine(L);
    int number = (int)luaL_checkinteger(L, 2);
    slot *s = number >= 1 && number <= e->count ? e->slots[number - 1] : NULL;
    struct sigaction pipe;
    if (s == NULL || s->state != KSMS_FLYING)
        return 0;
    hold_sigpipe(&pipe);
    e->way->ground(s);
    release_sigpipe(&pipe);
    e->flying--;
    ksms_free_slot(s);
    lua_pushinteger(L, s->starts);
    return 1;
}

/* engine:flying(): leaves the number of requests in the air. */
static int engine_flying(lua_State *L)
{
    lua_pushinteger(L, check_engine(L)->flying);
    return 1;
}

/*
** The resolver's threads may outlive the last request: libcurl has to stay in
** memory even when the interpreter unloads this module.
*/
static void pin_libcurl(void)
{
    CURL *(*function)(void) = curl_easy_init;
    void *address;
    Dl_info info;
    memcpy(&address, &function, sizeof address);
    if (dladdr(address, &info) != 0 && info.dli_fname != NULL)
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_NODELETE | RTLD_NOLOAD);
}

/* Leaves the module table. */
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L);
KSMS_EXPORT int luaopen_koresms_curl(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"submit", engine_submit},
        {"step", engine_step},
        {"take", engine_take},
        {"cancel", engine_cancel},
        {"flying", engine_flying},
        {"close", engine_close},
        {NULL, NULL}
    };
    ksms_checkversion(L);
    if (!ksms_watch_forks())
        return luaL_error(L, "forks of this process cannot be watched");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return luaL_error(L, "libcurl could not be initialised");
    pin_libcurl();
    ksms_newclass(L, ENGINE, methods, engine_close);
    lua_newtable(L);
    lua_pushcfunction(L, l_engine);
    lua_setfield(L, -2, "engine");
    lua_pushstring(L, curl_version());
    lua_setfield(L, -2, "_LIBCURL");
    return 1;
}
