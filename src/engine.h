/*
** engine.h - what the files of koresms.curl share. libcurl resolves names, connects, tunnels
** through proxies and secures (connection.c); over such a connection one request at a time is
** written and its reply is read by us (wire.c); engine.c shows both to Lua.
*/
#ifndef ksms_engine_h
#define ksms_engine_h

#if defined(__has_include)
#if !__has_include(<curl/curl.h>)
#error "koresms needs libcurl's headers: install libcurl4-openssl-dev \
(Debian, Ubuntu), libcurl-devel (Fedora), curl-dev (Alpine), curl (Homebrew)"
#endif
#endif

#include <sys/types.h>

#include <curl/curl.h>

#include "koresms.h"
#include "reader.h"

/* May be given on the command line, to compile what an older libcurl needs. */
#ifndef KSMS_CURL_VERSION
#define KSMS_CURL_VERSION LIBCURL_VERSION_NUM
#endif

#define KSMS_CURL_GE(a, b) (KSMS_CURL_VERSION >= ((7 << 16) + ((a) << 8) + (b)))

/* Before 7.68 libcurl may close a connection that only we use (curl #4369). */
#if !KSMS_CURL_GE(68, 0)
#error "koresms needs libcurl 7.68 or newer"
#endif

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

/* Why a request has failed whose time was over before it had a connection. */
#define KSMS_NOT_CONNECTED "no connection was made in time"

typedef struct ksms_engine ksms_engine;
typedef struct ksms_connection ksms_connection;
typedef struct ksms_authorities ksms_authorities;

/* The name of the class of requests. */
#define KSMS_REQUEST "koresms.request"

enum ksms_state { KSMS_UNUSED, KSMS_IN_FLIGHT, KSMS_FINISHED };

/*
** A request and its reply. It belongs to one userdata, and its answer to whoever holds that:
** nobody else can get it, and where nobody holds it any more, it goes with the collector.
*/
typedef struct ksms_request {
    enum ksms_state state;
    ksms_connection *connection; /* that carries it; NULL unless it is in flight */
    int starts;                  /* 1 from before its first byte leaves, else 0 */
    int reused;                  /* had its connection carried another one before? */
    size_t sent;                 /* bytes that left */
    double deadline;             /* on the clock of clock.h, as all times */
    double start_by;             /* when its first byte leaves at the latest */
    long connect_timeout;        /* ms */
    const char *failure;         /* NULL for a reply, else what failed, static text */
    const char *text;            /* why, static text; NULL: see 'error' */
    CURLcode code;               /* libcurl's, where it could not connect */
    ksms_buffer out;             /* the bytes of the request */
    ksms_reader reader;          /* head and body of the reply */
    char error[CURL_ERROR_SIZE];
} ksms_request;

enum ksms_connection_state { KSMS_CONNECTING, KSMS_BUSY, KSMS_IDLE };

struct ksms_connection {
    ksms_engine *engine;
    CURL *easy;        /* owns the connection */
    void *authorities; /* that it trusts; NULL where libcurl reads them */
    curl_socket_t fd;
    enum ksms_connection_state state;
    int given_up;          /* libcurl has closed its side, see connection.c */
    int number;            /* in the engine's array */
    ksms_request *request; /* NULL where it is idle */
    ksms_connection *next; /* on the stack of idle ones */
    double made, idle_since;
    char error[CURL_ERROR_SIZE];
};

/* A descriptor, and what tells whether it still stands for the same socket. */
typedef struct ksms_socket {
    int fd;
    ino_t inode;
} ksms_socket;

struct ksms_engine {
    int open;       /* 0 in a zeroed or closed one */
    CURLM *multi;   /* made at the first use in each process */
    unsigned forks; /* of the process that made it */
    CURLU *url;     /* parsed once */
    char *proxy;    /* scheme, host and port; NULL where there is none */
    char *proxy_user, *proxy_password;
    long proxy_port;
    int bypassed_proxy; /* libcurl wanted to connect to something else than the proxy */
    char *ca_file, *client_cert, *client_key;
    ksms_authorities *authorities; /* of this Lua state */
    ksms_buffer head;              /* of every request */
    int direct;                    /* the sockets carry our bytes as they are */
    int descriptors;               /* that a new connection takes at most, for a while */
    size_t reply_max;
    double max_idle, max_age;
    ksms_connection **connections;
    int count, room;
    int connecting;         /* how many of them */
    ksms_connection *idle;  /* a stack: the one used last is the next */
    double last_sweep;      /* when old ones were looked for among them */
    unsigned long finished; /* requests, ever */
    ksms_socket *sockets;   /* the open ones, for a child to close */
    int sockets_count, sockets_room;
    struct pollfd *polled; /* of a step, in two forms */
    struct curl_waitfd *waited;
    ksms_connection **ready;
    int polled_room, waited_room, ready_room;
};

/* Milliseconds until 'when', as libcurl takes them: at least 1. */
long ksms_ms_until(double when);

/* ---- engine.c ---- */

/* Leaves a parent's connections alone, where this process was forked off since they were made. */
void ksms_leave_parent(ksms_engine *e);

/* Ends a request that loses its connection to something else than the network; that is the
   caller's to close. */
void ksms_abandon(ksms_request *r, const char *text);

/* ---- request_lua.c ---- */

/* Registers the class, and its functions into the module table on top of the stack. */
void ksms_open_request_class(lua_State *L);

/* ---- connection.c ---- */

/* A connection that connects for a request, or NULL: the request has failed then, or there was
   no memory (its state tells). */
ksms_connection *ksms_connect(ksms_engine *e, ksms_request *r);

/* Moves on what connects; hands what has connected to wire.c. */
void ksms_advance_connects(ksms_engine *e);

/* An idle connection that may be used again, or NULL. */
ksms_connection *ksms_take_idle(ksms_engine *e);

/* Keeps a connection for another request. */
void ksms_keep_idle(ksms_connection *c);

/* Closes and frees a connection that carries nothing (any more). */
void ksms_close_connection(ksms_connection *c);

/* In a forked child: forgets the parent's connections, and closes what is open of its sockets. A
   daemon may have closed all descriptors before, and given their numbers to files of its own. */
void ksms_detach_connections(ksms_engine *e);

/* ---- authorities.c ---- */

/* Makes the object of a Lua state. 'libcurl' is what dlopen says of it; NULL: nothing is shared. */
void ksms_open_authorities(lua_State *L, void *libcurl);

/* That object. */
ksms_authorities *ksms_get_authorities(lua_State *L);

/* Has a new handle trust the authorities of a file in PEM form, or where 'file' is NULL those of
   the system. '*held' is what it needs as long as it lives; NULL where there is no such thing. */
CURLcode ksms_trust(ksms_authorities *a, const char *file, CURL *easy, void **held);

/* Lets go of what ksms_trust gave; NULL is let go of, too. */
void ksms_release_authorities(void *held);

/* ---- wire.c ---- */

/* Begins a filled request, on an idle connection or on a new one; 0 where there is no memory. */
int ksms_begin(ksms_engine *e, ksms_request *r);

/* A new connection is ready for its request. */
void ksms_connected(ksms_connection *c);

/* Ends a request in flight without a reply, and its connection with it. */
void ksms_fail_request(ksms_request *r, const char *failure, const char *text);

/* Moves every request on; waits up to 'ms' where none has finished. */
void ksms_step(ksms_engine *e, double ms);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
