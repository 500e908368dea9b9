/*
** jwt.c - signs the compact JWT (RFC 7519, RFC 7515) that goes into the
** 'auth' header. It only signs, so no algorithm is ever taken from a token.
** A signer is keyed once and lives as long as its client; a token costs one
** MAC or one RSA signature, and no allocation but its string. HMAC and RSA
** (PKCS #1 v1.5) sign the same claims with the same bytes: without a jti, a
** token holds for the second that it was signed in.
** A token is put together outside of the signer: making the string may run
** finalizers, which may sign with the same signer.
** OpenSSL's error queue is left as it was found: nginx reads the same queue.
*/
#define _POSIX_C_SOURCE 200809L

#include "random.h"

#include <limits.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "encode.h"
#include "koresms.h"
#include "module.h"

/* May be given to the compiler, so that the other branch is built, too. */
#ifndef KSMS_HAVE_EVP_MAC
#if defined(LIBRESSL_VERSION_NUMBER) || OPENSSL_VERSION_NUMBER < 0x30000000L
#define KSMS_HAVE_EVP_MAC 0
#else
#define KSMS_HAVE_EVP_MAC 1
#endif
#endif

#if KSMS_HAVE_EVP_MAC
#include <openssl/core_names.h>
#include <openssl/params.h>
#endif

#define SIGNER "koresms.signer"

/* The platform's own secrets have 44 characters. What lies outside of this
   is a slip: a variable that holds another thing, or another kind of file. */
#define SECRET_MIN 2
#define SECRET_MAX 1024

#define RSA_MIN_BITS  2048
#define RSA_MAX_BITS  8192
#define SIGNATURE_MAX (RSA_MAX_BITS / 8)

#define TTL_MAX 3600

/* Every byte of a name may become "\u00XX"; the rest of the claims are two
   integers, a jti and their names. */
#define CLAIMS_MAX (2 * 6 * KSMS_NAME_MAX + 192)
#define HEAD_MAX   64 /* the encoded header and its dot */
#define TOKEN_MAX  (HEAD_MAX + ksms_b64_len(CLAIMS_MAX) + 1 + ksms_b64_len(SIGNATURE_MAX))

typedef struct algorithm {
    const char *name;
    const char *digest;
    int hmac;
} algorithm;

static const algorithm algorithms[] = {{"HS256", "SHA256", 1},
                                       {"HS512", "SHA512", 1},
                                       {"RS256", "SHA256", 0},
                                       {"RS512", "SHA512", 0},
                                       {NULL, NULL, 0}};

typedef struct signer {
    EVP_MD_CTX *keyed; /* RSA (and HMAC before 3.0): keyed template */
    EVP_MD_CTX *work;  /* receives a copy of 'keyed' per signature */
#if KSMS_HAVE_EVP_MAC
    EVP_MAC_CTX *mac; /* HMAC: keyed, started anew per signature */
#endif
    double ttl;
    int jti;
    size_t head_len; /* 0 in a signer that was closed */
    size_t claims_len;
    char head[HEAD_MAX];     /* encoded header and its dot */
    char claims[CLAIMS_MAX]; /* the constant claims */
    double kept_at;          /* the second of the token that is kept */
    size_t kept_len;         /* 0 where none is */
    char kept[TOKEN_MAX];
} signer;

/* ------------------------------------------------------------------- key */

/* A passphrase is asked for: note that, and have none. */
static int no_passphrase(char *buf, int size, int writing, void *asked)
{
    (void)buf;
    (void)size;
    (void)writing;
    *(int *)asked = 1;
    return -1;
}

/* NULL, or a static text that says why this key cannot sign here. */
static const char *rsa_fault(const EVP_PKEY *key)
{
    if (EVP_PKEY_base_id(key) != EVP_PKEY_RSA)
        return "the private key is not an RSA key; RS256 and RS512 need one";
    if (EVP_PKEY_bits(key) < RSA_MIN_BITS)
        return "the RSA key is shorter than 2048 bits (RFC 7518, 3.3); "
               "make a longer one";
    if (EVP_PKEY_bits(key) > RSA_MAX_BITS)
        return "the RSA key is longer than 8192 bits; make a shorter one";
    return NULL;
}

/* Keys 's->keyed' with 'key'; the context takes its own reference. */
static int key_context(signer *s, const EVP_MD *md, EVP_PKEY *key)
{
    return (s->keyed = EVP_MD_CTX_new()) != NULL && (s->work = EVP_MD_CTX_new()) != NULL
           && EVP_DigestSignInit(s->keyed, NULL, md, NULL, key) == 1;
}

/* NULL, or a static text. The PEM text is the one thing that is read. */
static const char *key_rsa(signer *s, const algorithm *a, const char *pem, size_t n)
{
    const char *fault;
    int asked = 0;
    EVP_PKEY *key = NULL;
    BIO *bio = n <= INT_MAX ? BIO_new_mem_buf(pem, (int)n) : NULL;
    if (bio == NULL)
        return "the private key could not be read";
    key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);
    BIO_free(bio);
    if (key == NULL)
        return asked ? "the private key is encrypted; give one without a passphrase"
                     : "no private key in PEM form was found";
    fault = rsa_fault(key);
    if (fault == NULL && !key_context(s, EVP_get_digestbyname(a->digest), key))
        fault = "the private key cannot sign";
    EVP_PKEY_free(key);
    return fault;
}

#if KSMS_HAVE_EVP_MAC

static const char *key_hmac(signer *s, const algorithm *a, const char *secret, size_t n)
{
    OSSL_PARAM params[2];
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)a->digest, 0);
    params[1] = OSSL_PARAM_construct_end();
    s->mac = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    EVP_MAC_free(mac);
    if (s->mac == NULL || EVP_MAC_init(s->mac, (const unsigned char *)secret, n, params) != 1)
        return "the client secret cannot sign";
    return NULL;
}

/* Starting anew with the old key went wrong in silence before 3.0.3. */
static int can_restart(void)
{
    return OpenSSL_version_num() >= 0x30000030UL;
}

static int sign_hmac(const signer *s, const unsigned char *data, size_t n, unsigned char *sig,
                     size_t *sig_len)
{
    EVP_MAC_CTX *copy = NULL, *mac = s->mac;
    int ok;
    if (can_restart()) {
        ok = EVP_MAC_init(mac, NULL, 0, NULL) == 1;
    } else {
        mac = copy = EVP_MAC_CTX_dup(s->mac);
        ok = mac != NULL;
    }
    ok = ok && EVP_MAC_update(mac, data, n) == 1
         && EVP_MAC_final(mac, sig, sig_len, SIGNATURE_MAX) == 1;
    EVP_MAC_CTX_free(copy);
    return ok;
}

#else

static const char *key_hmac(signer *s, const algorithm *a, const char *secret, size_t n)
{
    EVP_PKEY *key
        = EVP_PKEY_new_mac_key(EVP_PKEY_HMAC, NULL, (const unsigned char *)secret, (int)n);
    int ok = key != NULL && key_context(s, EVP_get_digestbyname(a->digest), key);
    EVP_PKEY_free(key);
    return ok ? NULL : "the client secret cannot sign";
}

#endif

static int sign(const signer *s, const unsigned char *data, size_t n, unsigned char *sig,
                size_t *sig_len)
{
    *sig_len = SIGNATURE_MAX;
#if KSMS_HAVE_EVP_MAC
    if (s->mac != NULL)
        return sign_hmac(s, data, n, sig, sig_len);
#endif
    return s->keyed != NULL && EVP_MD_CTX_copy_ex(s->work, s->keyed) == 1
           && EVP_DigestSignUpdate(s->work, data, n) == 1
           && EVP_DigestSignFinal(s->work, sig, sig_len) == 1;
}

/* ------------------------------------------------------------------- Lua */

/* Finalizer; works on a zeroed signer and a second time. */
static int signer_gc(lua_State *L)
{
    signer *s = (signer *)luaL_checkudata(L, 1, SIGNER);
    EVP_MD_CTX_free(s->keyed);
    EVP_MD_CTX_free(s->work);
#if KSMS_HAVE_EVP_MAC
    EVP_MAC_CTX_free(s->mac);
#endif
    OPENSSL_cleanse(s, sizeof *s);
    return 0;
}

/* A string field of the table at 1; it stays on the stack. */
static const char *field(lua_State *L, const char *name, size_t *n)
{
    lua_getfield(L, 1, name);
    if (lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L,
                   "bad argument #1 to 'signer' (field '%s': string "
                   "expected, got %s)",
                   name, luaL_typename(L, -1));
    return lua_tolstring(L, -1, n);
}

static const algorithm *find_algorithm(const char *name)
{
    const algorithm *a = algorithms;
    while (a->name != NULL && strcmp(a->name, name) != 0)
        a++;
    return a->name != NULL ? a : NULL;
}

/* Appends the claim 'name' from the option 'option'; NULL where it won't do. */
static char *string_claim(lua_State *L, char *p, const char *name, const char *option)
{
    size_t n;
    const char *s = field(L, option, &n);
    if (n == 0 || n > KSMS_NAME_MAX || !ksms_is_utf8(s, n)) {
        lua_pushfstring(L, "%s: expected 1 to %d bytes of UTF-8 text", option, KSMS_NAME_MAX);
        return NULL;
    }
    p = ksms_literal(p, name);
    p = ksms_json_escape(p, s, n);
    return ksms_literal(p, "\",");
}

/* The encoded header, and the claims that never change. */
static int prepare(lua_State *L, signer *s, const algorithm *a)
{
    char header[HEAD_MAX / 2], *p = header;
    p = ksms_literal(p, "{\"alg\":\"");
    p = ksms_literal(p, a->name);
    p = ksms_literal(p, "\",\"typ\":\"JWT\"}");
    s->head_len = ksms_b64url(s->head, (unsigned char *)header, (size_t)(p - header));
    s->head[s->head_len++] = '.';
    p = string_claim(L, s->claims, "{\"appId\":\"", "client_id");
    if (p != NULL)
        p = string_claim(L, p, "\"sub\":\"", "subject");
    if (p == NULL)
        return 0;
    s->claims_len = (size_t)(p - s->claims);
    return 1;
}

/***
Makes a signer, keyed once.
@function signer
@tparam table options `algorithm` ("HS256", "HS512", "RS256", "RS512"),
  `client_id` and `subject` (strings), `ttl` (seconds, 1 to 3600), `jti`
  (boolean), and the key: `secret` (the client secret as it stands, for HS)
  or `private_key` (RSA, PEM, no passphrase, for RS)
@treturn[1] signer an object with the method `token`
@treturn[2] nil
@treturn[2] string which option is wrong and what would be right
*/
static int l_signer(lua_State *L)
{
    signer *s;
    const algorithm *a;
    const char *key, *fault;
    size_t n;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    s = (signer *)ksms_newuserdata(L, sizeof *s);
    memset(s, 0, sizeof *s);
    ksms_setclass(L, SIGNER);
    a = find_algorithm(field(L, "algorithm", &n));
    if (a == NULL)
        return luaL_error(L, "bad argument #1 to 'signer' (field 'algorithm': "
                             "expected HS256, HS512, RS256 or RS512)");
    lua_getfield(L, 1, "ttl");
    s->ttl = lua_tonumber(L, -1);
    if (!(s->ttl >= 1 && s->ttl <= TTL_MAX))
        return luaL_error(L,
                          "bad argument #1 to 'signer' (field 'ttl': "
                          "expected 1 to %d)",
                          TTL_MAX);
    s->ttl = floor(s->ttl);
    lua_getfield(L, 1, "jti");
    s->jti = lua_toboolean(L, -1);
    key = field(L, a->hmac ? "secret" : "private_key", &n);
    if (!prepare(L, s, a)) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (a->hmac && (n < SECRET_MIN || n > SECRET_MAX)) {
        lua_pushnil(L);
        lua_pushfstring(L, "client_secret: expected %d to %d bytes, got %d", SECRET_MIN, SECRET_MAX,
                        (int)n);
        return 2;
    }
    ERR_set_mark();
    fault = a->hmac ? key_hmac(s, a, key, n) : key_rsa(s, a, key, n);
    if (fault != NULL) {
        ksms_push_crypto_error(L, fault);
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    ERR_pop_to_mark();
    lua_settop(L, 2);
    return 1;
}

/* Writes the encoded claims at 't'; returns their end, NULL where there is no identifier. */
static char *write_claims(const signer *s, double now, char *t)
{
    char claims[CLAIMS_MAX], *p = claims;
    const unsigned char *id;
    memcpy(p, s->claims, s->claims_len);
    p = ksms_integer(ksms_literal(p + s->claims_len, "\"iat\":"), now);
    p = ksms_integer(ksms_literal(p, ",\"exp\":"), now + s->ttl);
    if (s->jti) {
        if (!ksms_draw_id(&id))
            return NULL;
        p = ksms_literal(p, ",\"jti\":\"");
        p = ksms_hex(p, id, KSMS_ID_BYTES);
        *p++ = '"';
    }
    *p++ = '}';
    return t + ksms_b64url(t, (unsigned char *)claims, (size_t)(p - claims));
}

/* Writes a token; returns its length, 0 where it has failed, for the reason in '*fault'. */
static size_t write_token(const signer *s, double now, char *token, const char **fault)
{
    unsigned char sig[SIGNATURE_MAX];
    size_t sig_len;
    char *t;
    memcpy(token, s->head, s->head_len);
    t = write_claims(s, now, token + s->head_len);
    if (t == NULL) {
        *fault = "no random bytes for the claim jti";
        return 0;
    }
    if (!sign(s, (unsigned char *)token, (size_t)(t - token), sig, &sig_len)) {
        *fault = "the token could not be signed";
        return 0;
    }
    *t++ = '.';
    t += ksms_b64url(t, sig, sig_len);
    OPENSSL_cleanse(sig, sig_len);
    return (size_t)(t - token);
}

/* Writes the token of a second; returns its length, 0 where it has failed. */
static size_t token_at(signer *s, double now, char *token, const char **fault)
{
    size_t n = s->kept_at == now ? s->kept_len : 0;
    if (n > 0) {
        memcpy(token, s->kept, n);
    } else if ((n = write_token(s, now, token, fault)) > 0 && !s->jti) {
        memcpy(s->kept, token, n);
        s->kept_len = n;
        s->kept_at = now;
    }
    return n;
}

/***
Signs a token: claims `appId`, `sub`, `iat`, `exp`, and a fresh `jti` where
the signer was made so. Times are whole seconds (NumericDate, RFC 7519, 2).
@function signer:token
@tparam[opt] number now seconds since 1970; the system's clock by default
@treturn[1] string the compact token
@treturn[2] nil
@treturn[2] string what the crypto library said, or that the signer was closed, as it
  is for finalizers that run at the end of the program
*/
static int signer_token(lua_State *L)
{
    signer *s = (signer *)luaL_checkudata(L, 1, SIGNER);
    double now = floor(luaL_optnumber(L, 2, (lua_Number)time(NULL)));
    const char *fault = NULL;
    char token[TOKEN_MAX];
    size_t n;
    luaL_argcheck(L, now >= 0 && now <= 9e12, 2, "no time of this age");
    if (s->head_len == 0) {
        lua_pushnil(L);
        lua_pushliteral(L, "this signer was closed");
        return 2;
    }
    ERR_set_mark();
    n = token_at(s, now, token, &fault);
    if (n == 0) {
        lua_pushnil(L);
        ksms_push_crypto_error(L, fault);
        return 2;
    }
    ERR_pop_to_mark();
    lua_pushlstring(L, token, n);
    OPENSSL_cleanse(token, n);
    return 1;
}

/* Leaves "koresms.signer": what it holds is nobody's to print. */
static int signer_tostring(lua_State *L)
{
    lua_pushliteral(L, SIGNER);
    return 1;
}

void ksms_open_jwt(lua_State *L)
{
    static const luaL_Reg methods[] = {{"token", signer_token}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"signer", l_signer}, {NULL, NULL}};
    ksms_newclass(L, SIGNER, methods, signer_gc);
    luaL_getmetatable(L, SIGNER);
    lua_pushcfunction(L, signer_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    ksms_setfuncs(L, functions);
}
