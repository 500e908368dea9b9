/*
** engine.c - opens koresms.curl: requests in, replies out, over one libcurl
** multi handle. It knows no policy: it says what came back, how often request
** bytes began to leave, and how far a failure got. Finished transfers are
** collected by an explicit call, so that libcurl never calls into Lua.
*/
#define _GNU_SOURCE             /* dladdr, RTLD_NODELETE, sigaction */

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fork.h"
#include "request.h"
#include "transfer.h"

#define ENGINE              "koresms.engine"

/* A caller that stays away longer than this between two steps (seconds) has
   its transfers wait for it: their clock stands still meanwhile. */
#define ABSENCE             0.05

/*
** libcurl is told to leave signals alone. Before 7.87 OpenSSL then wrote to
** sockets in a way that raises SIGPIPE where the peer is gone, which ends a
** program that does not expect it.
*/
#ifndef KSMS_HOLD_SIGPIPE
#define KSMS_HOLD_SIGPIPE   (!KSMS_CURL_GE(87, 0))
#endif

#if KSMS_HOLD_SIGPIPE

#include <signal.h>

typedef struct sigaction sigpipe;

static void hold_sigpipe(sigpipe *old)
{
    struct sigaction ignore;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &ignore, old);
}

static void release_sigpipe(const sigpipe *old)
{
    (void)sigaction(SIGPIPE, old, NULL);
}

#else

typedef int sigpipe;

#define hold_sigpipe(old)       (*(old) = 0)
#define release_sigpipe(old)    ((void)(old))

#endif

static char content_type_line[] = "Content-Type: application/json";

/*
** The first call in a forked child: the connections are the parent's. Their
** descriptors are closed here, which the peer does not see, and the handles
** are left alone, since to clean them up would say goodbye in their name.
** What was in flight may still be sent by the parent: nobody knows here.
*/
static void leave_parent(engine *e)
{
    int i;
    for (i = 0; i < e->sockets_count; i++)
        (void)close(e->sockets[i].fd);
    e->sockets_count = 0;
    e->multi = NULL;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        s->easy = NULL;
        if (s->state == FLYING) {
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
    if (e->tainted && e->flying == 0 && e->multi != NULL) {
        /* Its connections end with it. */
        CURLM *old = e->multi;
        sigpipe pipe;
        e->multi = NULL;
        e->tainted = 0;
        hold_sigpipe(&pipe);
        (void)curl_multi_cleanup(old);
        release_sigpipe(&pipe);
    }
    if (e->multi == NULL) {
        if ((e->multi = curl_multi_init()) == NULL)
            return "libcurl gave no multi handle";
        e->forks = ksms_forks;
    }
    return NULL;
}

/* libcurl has lost its way: every transfer in the air ends here. */
static void fail_all(engine *e)
{
    int i;
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->state == FLYING) {
            ksms_ground(s);
            s->lost = "libcurl gave up all transfers";
            ksms_finish(s, CURLE_RECV_ERROR);
        }
    }
}

/* One ended transfer: done, or once more where not a byte had left. */
static void land(slot *s, CURLcode code)
{
    if (code == CURLE_OK && !s->head.done) {
        /* libcurl takes a connection that ends in the head for its end. */
        s->lost = "the connection ended within the head of the reply";
        code = CURLE_RECV_ERROR;
    }
#if !KSMS_HAVE_PREREQ
    if (code == CURLE_OK && s->request_read < s->request_len) {
        s->lost = "a reply came before the request had left";
        code = CURLE_RECV_ERROR;
    }
#endif
    /* Over HTTP/2 a failed request leaves its connection to the others. */
    if (code != CURLE_OK && s->owner->http2)
        s->owner->tainted = 1;
    ksms_ground(s);
    if (s->unclean && !s->fresh && s->starts == 0) {
        s->fresh = 1;
        s->owner->flying--;
        s->state = FREE;
        if (ksms_launch(s) == NULL)
            return;
        s->owner->flying++;
    }
    ksms_finish(s, code);
}

static void collect(engine *e)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(e->multi, &left)) != NULL) {
        char *p = NULL;
        CURLcode code = message->data.result;
        if (message->msg == CURLMSG_DONE
            && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &p)
               == CURLE_OK && p != NULL)
            land((slot *)(void *)p, code);
    }
}

static void perform(engine *e)
{
    int running;
    sigpipe pipe;
    hold_sigpipe(&pipe);
    if (curl_multi_perform(e->multi, &running) != CURLM_OK)
        fail_all(e);
    else
        collect(e);
    release_sigpipe(&pipe);
}

/* Frees all that a process owns; works on a zeroed engine and twice. */
static void shut(engine *e)
{
    int i;
    sigpipe pipe;
    if (e->multi != NULL && e->forks != ksms_forks)
        leave_parent(e);
    hold_sigpipe(&pipe);
    for (i = 0; i < e->count; i++) {
        slot *s = e->slots[i];
        if (s->easy != NULL) {
            if (s->state == FLYING)
                ksms_ground(s);
            curl_easy_cleanup(s->easy);
        }
        if (s->auth != NULL)
            ksms_wipe(s->auth, s->auth_size);
        free(s->auth);
        free(s->body);
        free(s);
    }
    if (e->multi != NULL)
        (void)curl_multi_cleanup(e->multi);
    release_sigpipe(&pipe);
    free(e->slots);
    free(e->sockets);
    curl_url_cleanup(e->url);
    free(e->proxy);
    free(e->ca_file);
    free(e->client_cert);
    free(e->client_key);
    memset(e, 0, sizeof *e);
    e->closed = 1;
}


/* ---------------------------------------------------------------------- Lua */

static engine *check_engine(lua_State *L)
{
    engine *e = (engine *)luaL_checkudata(L, 1, ENGINE);
    const char *fault;
    if (e->closed)
        luaL_error(L, "this engine was closed");
    if ((fault = enter(e)) != NULL)
        luaL_error(L, "%s", fault);
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

static void set_url(lua_State *L, engine *e)
{
    lua_getfield(L, 1, "url");
    if ((e->url = curl_url()) == NULL)
        luaL_error(L, "not enough memory");
    if (curl_url_set(e->url, CURLUPART_URL, luaL_checkstring(L, -1),
                     CURLU_PATH_AS_IS) != CURLUE_OK)
        luaL_error(L, "option 'url' is no URL");
    lua_pop(L, 1);
}

/*
** engine(options): options is a table with url, cap (bytes), max_idle
** (seconds), http2 (boolean), proxy, ca_file, client_cert, client_key.
** Leaves the engine.
*/
static int l_engine(lua_State *L)
{
    engine *e;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    e = (engine *)ksms_newuserdata(L, sizeof *e);
    memset(e, 0, sizeof *e);
    ksms_setclass(L, ENGINE);
    set_url(L, e);
    copy_option(L, "proxy", &e->proxy);
    copy_option(L, "ca_file", &e->ca_file);
    copy_option(L, "client_cert", &e->client_cert);
    copy_option(L, "client_key", &e->client_key);
    lua_getfield(L, 1, "cap");
    e->cap = (size_t)luaL_checknumber(L, -1);
    lua_getfield(L, 1, "max_idle");
    e->max_idle = (long)ceil((double)luaL_checknumber(L, -1));
    lua_getfield(L, 1, "http2");
    e->http2 = lua_toboolean(L, -1);
    e->content_type.data = content_type_line;
    lua_settop(L, 2);
    return 1;
}

/*
** engine:submit(token, body, timeout, connect_timeout): starts one POST; both
** times in seconds. Leaves its ticket, a small integer, or nil and a text
** where it could not be started (nothing left then).
*/
static int engine_submit(lua_State *L)
{
    engine *e = check_engine(L);
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
    s = ksms_new_slot(e);
    if (s == NULL || !ksms_set_token(s, token, token_len)) {
        if (s != NULL)
            ksms_free_slot(s);
        lua_pushnil(L);
        lua_pushliteral(L, "not enough memory");
        return 2;
    }
    memcpy(s->request, body, body_len);
    s->request_len = body_len;
    s->begun = ksms_monotonic();
    s->deadline = s->begun + timeout;
    s->connect_wanted = connect < 1 ? 1 : connect > 1e9 ? 1000000000L
                                                        : (long)connect;
    s->fresh = 0;
    if ((fault = ksms_launch(s)) != NULL) {
        ksms_free_slot(s);
        lua_pushnil(L);
        lua_pushstring(L, fault);
        return 2;
    }
    lua_pushinteger(L, s->number);
    return 1;
}

/*
** The caller was busy elsewhere while answers waited. What the transfers lost
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
        if (s->state != FLYING || lost < ABSENCE)
            continue;
        s->deadline += lost;
        s->timeout += (long)(lost * 1000);
        s->connect_timeout += (long)(lost * 1000);
        e->extended = 1;
        /* Where libcurl refuses, the transfer keeps its old time. */
        (void)curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, s->timeout);
        (void)curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS,
                               s->connect_timeout);
    }
}

/* Milliseconds to wait at most: libcurl wakes at the old deadlines only. */
static double until_deadline(engine *e, double ms)
{
    double now = ksms_monotonic();
    int i;
    for (i = 0; i < e->count; i++) {
        const slot *s = e->slots[i];
        double left = ceil((s->deadline - now) * 1000) + 1;
        if (s->state == FLYING && left < ms)
            ms = left < 1 ? 1 : left;
    }
    return ms;
}

/*
** engine:step(seconds): moves every transfer on; waits up to 'seconds' where
** none has ended yet, without using the CPU. Leaves true where there is
** something to take.
*/
static int engine_step(lua_State *L)
{
    engine *e = check_engine(L);
    double ms = ceil((double)luaL_checknumber(L, 2) * 1000);
    make_up(e);
    perform(e);
    if (e->flying == 0)
        e->extended = 0;
    if (e->done == NULL && ms > 0) {
        int wait;
        if (e->extended)
            ms = until_deadline(e, ms);
        wait = ms > 1e9 ? 1000000000 : (int)ms;
        if (curl_multi_poll(e->multi, NULL, 0, wait, NULL) != CURLM_OK)
            fail_all(e);
        else if (e->flying > 0)
            perform(e);
    }
    e->left = ksms_monotonic();
    lua_pushboolean(L, e->done != NULL);
    return 1;
}

static void push_field(lua_State *L, const char *s)
{
    if (s[0] != '\0')
        lua_pushstring(L, s);
    else
        lua_pushnil(L);
}

/*
** engine:take(likely): the next ended transfer. Leaves nothing where there is
** none. For a reply it leaves ticket, 0, status, body, Retry-After or nil, Date
** or nil, starts; the body is the string 'likely' itself where they are equal,
** since one platform says the same thing over and over and a string costs. For
** a failure it leaves ticket, libcurl's code, text, starts, phase, refused
** (true where a reply was refused for what it held), late (true where the
** deadline has passed).
*/
static int engine_take(lua_State *L)
{
    engine *e = check_engine(L);
    slot *s = e->done;
    if (s == NULL)
        return 0;
    lua_settop(L, 2);
    lua_pushinteger(L, s->number);
    lua_pushinteger(L, (lua_Integer)s->code);
    if (s->code == CURLE_OK) {
        size_t n = 0;
        const char *likely = lua_type(L, 2) == LUA_TSTRING
                           ? lua_tolstring(L, 2, &n) : NULL;
        lua_pushinteger(L, s->head.status);
        if (likely != NULL && n == s->body_len && n > 0
            && memcmp(likely, s->body, n) == 0)
            lua_pushvalue(L, 2);
        else
            lua_pushlstring(L, s->body != NULL ? s->body : "", s->body_len);
        push_field(L, s->head.retry_after);
        push_field(L, s->head.date);
        lua_pushinteger(L, s->starts);
    } else {
        lua_pushstring(L, ksms_failure_text(s));
#if !KSMS_HAVE_PREREQ
        /* A write that failed half-way is not reported as one. */
        if (s->starts == 0 && s->code == CURLE_SEND_ERROR)
            s->starts = 1;
#endif
        lua_pushinteger(L, s->starts);
        lua_pushstring(L, ksms_phase(s));
        lua_pushboolean(L, s->fault != NULL);
        lua_pushboolean(L, ksms_monotonic() >= s->deadline);
    }
    e->done = s->next;
    ksms_free_slot(s);
    return lua_gettop(L) - 2;
}

/*
** engine:cancel(ticket): gives up a transfer that was not taken yet. Leaves
** the number of its starts; nil where no such transfer is in the air.
*/
static int engine_cancel(lua_State *L)
{
    engine *e = check_engine(L);
    int number = (int)luaL_checkinteger(L, 2);
    slot *s = number >= 1 && number <= e->count ? e->slots[number - 1] : NULL;
    sigpipe pipe;
    if (s == NULL || s->state != FLYING)
        return 0;
    hold_sigpipe(&pipe);
    ksms_ground(s);
    release_sigpipe(&pipe);
    e->flying--;
    ksms_free_slot(s);
    lua_pushinteger(L, s->starts);
    return 1;
}

/* engine:flying(): leaves the number of transfers in the air. */
static int engine_flying(lua_State *L)
{
    lua_pushinteger(L, check_engine(L)->flying);
    return 1;
}

/*
** The resolver's threads may outlive the last transfer: libcurl has to stay
** in memory even when the interpreter unloads this module.
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
    lua_pushboolean(L, KSMS_HAVE_PREREQ);
    lua_setfield(L, -2, "guarded");
    return 1;
}
