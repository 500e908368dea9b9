/*
** authorities.c - the certificate authorities that connections trust, parsed once for all clients
** of a Lua state. Where libcurl has a folder of them besides the file, as Debian's has, it parses
** them for each connection: 20 ms and half a megabyte, in the middle of a step.
**
** They are parsed by the very OpenSSL that libcurl uses, which is found through libcurl, and
** libcurl is handed them in the callback that it has for that. Where this cannot be done, libcurl
** reads them by itself.
*/
#define _DEFAULT_SOURCE /* st_ctim */

#include "engine.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/ssl.h>

#define AUTHORITIES "koresms.authorities"
/* The registry's field of the object; engines point to it, so that it stays. */
#define OBJECT "koresms authorities"

/* Files that are kept parsed; where there are more, they take turns. */
#define KEPT 8

typedef struct {
    char *file;      /* NULL in an unused place */
    int with_folder; /* the system's folder besides */
    struct stat state, folder_state;
    X509_STORE *store;
} parsed_file;

struct ksms_authorities {
    int open; /* 0 in a zeroed or closed one */
    int next; /* the place that is used next */
    parsed_file kept[KEPT];
};

/* What is called of libcurl's OpenSSL. This module is not linked with one. */
static struct {
    int found;
    X509_STORE *(*store_new)(void);
    void (*store_free)(X509_STORE *);
    int (*store_up_ref)(X509_STORE *);
    int (*store_load)(X509_STORE *, const char *, const char *);
    int (*store_set_flags)(X509_STORE *, unsigned long);
    void (*ctx_set_store)(SSL_CTX *, X509_STORE *);
    const SSL_METHOD *(*ctx_method)(const SSL_CTX *);
    const SSL_METHOD *(*client_method)(void);
    void (*clear_errors)(void);
} openssl;

/* Where the system's authorities are, as libcurl was built; NULL where it has none. */
static const char *system_file, *system_folder;

static int find_function(void *libcurl, const char *name, void *function, size_t size)
{
    void *address = dlsym(libcurl, name);
    if (address == NULL || size != sizeof address)
        return 0;
    memcpy(function, &address, size);
    return 1;
}

/* A search in libcurl goes on in the libraries that it needs, and in no others. */
static int find_openssl(void *libcurl, const char *backend)
{
#define find(name, field) find_function(libcurl, name, &openssl.field, sizeof openssl.field)
    /* Of several backends any may be in use. */
    return libcurl != NULL && backend != NULL && strncmp(backend, "OpenSSL/", 8) == 0
           && strchr(backend, ' ') == NULL && find("X509_STORE_new", store_new)
           && find("X509_STORE_free", store_free) && find("X509_STORE_up_ref", store_up_ref)
           && find("X509_STORE_load_locations", store_load)
           && find("X509_STORE_set_flags", store_set_flags)
           && find("SSL_CTX_set_cert_store", ctx_set_store)
           && find("SSL_CTX_get_ssl_method", ctx_method) && find("TLS_client_method", client_method)
           && find("ERR_clear_error", clear_errors);
#undef find
}

static int authorities_gc(lua_State *L)
{
    ksms_authorities *a = (ksms_authorities *)luaL_checkudata(L, 1, AUTHORITIES);
    int i;
    for (i = 0; i < KEPT; i++) {
        ksms_release_authorities(a->kept[i].store);
        free(a->kept[i].file);
    }
    memset(a, 0, sizeof *a);
    return 0;
}

void ksms_open_authorities(lua_State *L, void *libcurl)
{
    static const luaL_Reg no_methods[] = {{NULL, NULL}};
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    ksms_authorities *a;
    openssl.found = find_openssl(libcurl, info->ssl_version);
    /* Older ones do not tell, and read their system's authorities by themselves. */
#if KSMS_CURL_GE(70, 0)
    if (info->age >= CURLVERSION_SEVENTH) {
        system_file = info->cainfo;
        system_folder = info->capath;
    }
#endif
    ksms_newclass(L, AUTHORITIES, no_methods, authorities_gc);
    lua_getfield(L, LUA_REGISTRYINDEX, OBJECT);
    if (lua_isnil(L, -1)) {
        a = (ksms_authorities *)ksms_newuserdata(L, sizeof *a);
        memset(a, 0, sizeof *a);
        ksms_setclass(L, AUTHORITIES);
        a->open = 1;
        lua_setfield(L, LUA_REGISTRYINDEX, OBJECT);
    }
    lua_pop(L, 1);
}

ksms_authorities *ksms_get_authorities(lua_State *L)
{
    ksms_authorities *a;
    lua_getfield(L, LUA_REGISTRYINDEX, OBJECT);
    a = (ksms_authorities *)lua_touserdata(L, -1);
    lua_pop(L, 1);
    return a;
}

void ksms_release_authorities(void *held)
{
    if (held != NULL)
        openssl.store_free((X509_STORE *)held);
}

#if defined(__APPLE__)
#define changed_at st_ctimespec
#else
#define changed_at st_ctim
#endif

static int is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size
           && a->changed_at.tv_sec == b->changed_at.tv_sec
           && a->changed_at.tv_nsec == b->changed_at.tv_nsec;
}

/* NULL where they cannot be read: libcurl has the words for that. */
static X509_STORE *parse(const char *file, const char *folder)
{
    X509_STORE *store = openssl.store_new();
    if (store == NULL)
        return NULL;
    /* The flags are those that libcurl sets. */
    if (openssl.store_load(store, file, folder) == 1
        && openssl.store_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN)
               == 1)
        return store;
    openssl.store_free(store);
    openssl.clear_errors();
    return NULL;
}

/* The parsed authorities of a file, as it is now; NULL where there are none. */
static X509_STORE *find_parsed(ksms_authorities *a, const char *file, const char *folder)
{
    parsed_file fresh = {0}, *place = NULL;
    int i;
    if (stat(file, &fresh.state) != 0 || (folder != NULL && stat(folder, &fresh.folder_state) != 0))
        return NULL;
    fresh.with_folder = folder != NULL;
    for (i = 0; i < KEPT && place == NULL; i++) {
        parsed_file *k = &a->kept[i];
        if (k->file != NULL && k->with_folder == fresh.with_folder && strcmp(k->file, file) == 0)
            place = k;
    }
    if (place != NULL && is_same(&place->state, &fresh.state)
        && is_same(&place->folder_state, &fresh.folder_state))
        return place->store;
    if ((fresh.store = parse(file, folder)) == NULL)
        return NULL;
    if ((fresh.file = (char *)malloc(strlen(file) + 1)) == NULL) {
        openssl.store_free(fresh.store);
        return NULL;
    }
    strcpy(fresh.file, file);
    if (place == NULL) {
        place = &a->kept[a->next];
        a->next = (a->next + 1) % KEPT;
    }
    ksms_release_authorities(place->store);
    free(place->file);
    *place = fresh;
    return fresh.store;
}

/* libcurl has made a context of TLS, for the server or for a proxy. */
static CURLcode on_context(CURL *easy, void *context, void *store)
{
    SSL_CTX *ctx = (SSL_CTX *)context;
    (void)easy;
    /* Of another OpenSSL, which was linked into libcurl: it has a table of its own. */
    if (openssl.ctx_method(ctx) != openssl.client_method()) {
        openssl.found = 0;
        return CURLE_SSL_CONNECT_ERROR;
    }
    if (openssl.store_up_ref((X509_STORE *)store) != 1)
        return CURLE_OUT_OF_MEMORY;
    openssl.ctx_set_store(ctx, (X509_STORE *)store);
    return CURLE_OK;
}

CURLcode ksms_trust(ksms_authorities *a, const char *file, CURL *easy, void **held)
{
    CURLcode rc = CURLE_OK;
    X509_STORE *store = NULL;
    int own = file != NULL;
#define set(option, value) (rc = rc != CURLE_OK ? rc : curl_easy_setopt(easy, option, value))
    *held = NULL;
    if (own) {
        set(CURLOPT_CAINFO, file);
        set(CURLOPT_CAPATH, NULL);
        set(CURLOPT_PROXY_CAINFO, file);
        set(CURLOPT_PROXY_CAPATH, NULL);
    } else {
        file = system_file;
    }
    if (openssl.found && a->open && file != NULL)
        store = find_parsed(a, file, own ? NULL : system_folder);
    if (store == NULL || openssl.store_up_ref(store) != 1)
        return rc;
    *held = store;
    set(CURLOPT_SSL_CTX_DATA, store);
    set(CURLOPT_SSL_CTX_FUNCTION, on_context);
    set(CURLOPT_CAINFO, NULL);
    set(CURLOPT_CAPATH, NULL);
#if KSMS_CURL_GE(87, 0)
    /* Some look into their own cache behind the callback. */
    set(CURLOPT_CA_CACHE_TIMEOUT, 0L);
#endif
#undef set
    return rc;
}
