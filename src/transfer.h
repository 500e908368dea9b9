/*
** transfer.h - one POST over libcurl, as the engine and its callbacks share it.
*/
#ifndef ksms_transfer_h
#define ksms_transfer_h

#if defined(__has_include)
#if !__has_include(<curl/curl.h>)
#error "koresms needs libcurl's headers: install libcurl4-openssl-dev \
(Debian, Ubuntu), libcurl-devel (Fedora), curl-dev (Alpine), curl (Homebrew)"
#endif
#endif

#include <curl/curl.h>

#include "head.h"
#include "koresms.h"

#define KSMS_CURL_GE(a, b) \
    (LIBCURL_VERSION_NUM >= ((7 << 16) + ((a) << 8) + (b)))

#if !KSMS_CURL_GE(66, 0)
#error "koresms needs libcurl 7.66 or newer (curl_multi_poll)"
#endif

/* Without the pre-request callback (or where the build asks for it) the body
   is given by a callback that cannot rewind: libcurl then cannot repeat it. */
#if KSMS_CURL_GE(80, 0) && !defined(KSMS_NO_PREREQ)
#define KSMS_HAVE_PREREQ    1
#else
#define KSMS_HAVE_PREREQ    0
#endif

#define KSMS_REQUEST_MAX    128             /* the JSON body of one message */

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility push(hidden)
#endif

enum state { FREE, FLYING, DONE };

typedef struct engine engine;

/* One transfer. A slot is never moved: libcurl holds its address. */
typedef struct slot {
    engine *owner;
    CURL *easy;
    struct slot *next;          /* in the list of free or of done slots */
    int number;                 /* what Lua calls the ticket */
    enum state state;
    int starts;                 /* times request bytes began to leave */
    int fresh;                  /* this transfer wants a new connection */
    int unclean;                /* a kept connection had bytes that nobody asked for */
    const char *lost;           /* why there is no answer, where libcurl is silent */
    const char *fault;          /* why the reply was refused, static text */
    CURLcode code;
    double begun;               /* on the monotonic clock, like all times */
    double deadline;
    long timeout, connect_timeout;      /* as set on 'easy', ms */
    long request_set;
    int fresh_set;
    long connect_wanted;
    ksms_head head;
    char *body;
    size_t body_len, body_size;
    char request[KSMS_REQUEST_MAX];
    size_t request_len, request_read;
    char *auth;                 /* the header line with the token */
    size_t auth_size;
    struct curl_slist auth_node;        /* first of the header list */
    char error[CURL_ERROR_SIZE];
} slot;

struct engine {
    CURLM *multi;               /* made at the first use in each process */
    unsigned forks;             /* of the process that made it */
    slot **slots;
    int count, room;
    slot *free, *done, *done_last;
    int flying;
    double left;                /* when the last step ended; 0 before it */
    int extended;               /* some deadlines are later than libcurl knows */
    int tainted;                /* HTTP/2: a kept connection has failed a request */
    struct {
        int fd;
        long port;              /* the local one; 0 until it is known */
    } *sockets;                 /* the open ones */
    int sockets_count, sockets_room;
    size_t cap;
    long max_idle;
    int http2;
    int closed;
    struct curl_slist content_type;     /* rest of every header list */
    CURLU *url;                 /* parsed once */
    char *proxy, *ca_file, *client_cert, *client_key;
};

double ksms_monotonic(void);

/* Overwrites what must not outlive its use in freed memory. */
void ksms_wipe(char *s, size_t n);

/* A free slot, or NULL where there is no memory. */
slot *ksms_new_slot(engine *e);

void ksms_free_slot(slot *s);

/* Copies the token into the header line; 0 where there is no memory. */
int ksms_set_token(slot *s, const char *token, size_t n);

/* Puts a filled slot into the air; NULL, or what went wrong. */
const char *ksms_launch(slot *s);

/* Takes a flying slot out of the air. */
void ksms_ground(slot *s);

/* The transfer has ended; it waits to be taken. */
void ksms_finish(slot *s, CURLcode code);

/* How far a failed transfer had come: "resolve", "connect", "proxy", "tls". */
const char *ksms_phase(const slot *s);

/* What to tell people about a failed transfer. */
const char *ksms_failure_text(const slot *s);

#if defined(__GNUC__) && __GNUC__ >= 4
#pragma GCC visibility pop
#endif

#endif
