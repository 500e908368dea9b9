/*
** engine.h - what the files of koresms.curl share: one request and its answer
** (slot), and the two ways to carry it. Over HTTP/1.1 we speak ourselves, over
** connections that libcurl makes (wire.c); over HTTP/2 libcurl speaks
** (transfer.c).
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

#define KSMS_CURL_GE(a, b) \
    (LIBCURL_VERSION_NUM >= ((7 << 16) + ((a) << 8) + (b)))

/* Before 7.68 libcurl may close a connection that only we use (curl #4369). */
#if !KSMS_CURL_GE(68, 0)
#error "koresms needs libcurl 7.68 or newer"
#endif

#define KSMS_REQUEST_MAX    128         /* the JSON body of one message */

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

enum ksms_state { KSMS_FREE, KSMS_FLYING, KSMS_ENDED };

/* A descriptor, and what tells whether it still stands for the same socket. */
typedef struct ksms_socket {
    int fd;
    ino_t inode;
} ksms_socket;

typedef struct engine engine;
typedef struct ksms_link ksms_link;

/* One request and its answer. A slot is never moved: libcurl holds its address. */
typedef struct slot {
    engine *owner;
    struct slot *next;          /* in the list of free or of ended slots */
    int number;                 /* what Lua calls the ticket */
    enum ksms_state state;
    int starts;                 /* times request bytes began to leave */
    CURLcode code;              /* how it ended */
    const char *fault;          /* why the reply was refused, static text */
    const char *lost;           /* why there is no answer, where libcurl is silent */
    const char *phase;          /* how far a failure got before the first start */
    double begun;               /* on the monotonic clock, like all times */
    double deadline;
    long connect_timeout;       /* ms */
    ksms_reader reader;         /* head and body of the reply */
    ksms_buffer out;            /* what holds the token: wiped when it is freed */
    char error[CURL_ERROR_SIZE];
    /* wire.c */
    ksms_link *link;
    size_t sent;
    /* transfer.c */
    CURL *easy;
    long timeout_set, connect_set, length_set;      /* as set on 'easy' */
    int fresh_set;
    char request[KSMS_REQUEST_MAX];
    size_t request_len, request_read;
    struct curl_slist auth;     /* first of the header list */
} slot;

/* A way to carry requests. */
typedef struct ksms_way {
    /* Copies what is to be sent into a slot; 0 where there is no memory. */
    int (*fill)(slot *s, const char *token, size_t token_len,
                const char *body, size_t body_len);
    /* Puts a filled slot into the air; NULL, or what went wrong. */
    const char *(*launch)(slot *s);
    /* Takes a flying slot out of the air. */
    void (*ground)(slot *s);
    /* Moves all on; waits up to 'ms' where none has ended. */
    void (*move)(engine *e, double ms);
    /* Gives a flying slot more time, in ms; its deadline is set already. */
    void (*extend)(slot *s, long ms);
    /* Forgets, in a forked child, what is the parent's. */
    void (*forget)(engine *e);
    /* Frees what the slots and the engine hold for it. */
    void (*shut)(engine *e);
} ksms_way;

extern const ksms_way ksms_wire;
extern const ksms_way ksms_transfer;

struct engine {
    const ksms_way *way;
    CURLM *multi;               /* made at the first use in each process */
    unsigned forks;             /* of the process that made it */
    slot **slots;
    int count, room;
    slot *free, *ended, *ended_last;
    int flying;
    double left;                /* when the last step ended; 0 before it */
    ksms_socket *sockets;       /* the open ones: a child closes its own */
    int sockets_count, sockets_room;
    size_t cap;
    double max_idle;
    CURLU *url;                 /* parsed once */
    char *proxy, *ca_file, *client_cert, *client_key;
    /* wire.c */
    ksms_link **links;
    int links_count, links_room;
    ksms_link *idle;            /* stack: the one used last is the next */
    double looked;              /* when old ones were looked for among them */
    int connecting;
    struct curl_waitfd *polled;
    ksms_link **polled_links;
    int polled_room, polled_links_room;
    ksms_buffer head;           /* of each request, up to its token */
    int direct;                 /* the sockets carry our bytes as they are */
    /* transfer.c */
    struct curl_slist fields[2];        /* rest of every header list */
    int tainted;                /* a kept connection has failed a request */
};

double ksms_monotonic(void);

/* Makes room for 'need' elements of 'size'; 0 where there is no memory. */
int ksms_grow(void **array, int *room, int need, size_t size);

/* A free slot, or NULL where there is no memory. */
slot *ksms_new_slot(engine *e);

void ksms_free_slot(slot *s);

/* A flying slot has ended; it waits to be taken. */
void ksms_finish(slot *s, CURLcode code);

/* A multi handle, or NULL. */
CURLM *ksms_new_multi(void);

/* Sets what every connection has in common: TLS, proxy, sockets, limits. */
CURLcode ksms_connection(CURL *easy, engine *e, char *error);

/* Closes, in a forked child, what is open of the parent's sockets: a daemon may have
   closed all descriptors before, and have given their numbers to files of its own. */
void ksms_close_sockets(engine *e);

/* How far a failed connection had come: "resolve", "connect", "proxy", "tls". */
const char *ksms_phase(const engine *e, CURL *easy);

/* Milliseconds until 'when', as libcurl takes them: at least 1. */
long ksms_ms_until(double when);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
