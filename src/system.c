/*
** system.c - what the command needs of the system and Lua's library does not have: standard
** descriptors that are open, names of variables, who may read a file, and files that are new
** and private.
*/
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "koresms.h"

/* POSIX wants it declared by whoever uses it. */
extern char **environ;

#define NEWFILE "koresms.newfile"

/* A file that `create_file` made; NULL once it is closed. */
typedef struct newfile {
    FILE *file;
} newfile;

/* Leaves nil and the system's text for 'number'. */
static int push_error(lua_State *L, int number)
{
    lua_pushnil(L);
    lua_pushstring(L, strerror(number));
    return 2;
}

/* A handler. */
static void do_nothing(int number)
{
    (void)number;
}

/***
Opens the null device in place of each of the descriptors 0, 1 and 2 that is closed, so that no
socket and no file gets a number that standard input, output or errors are written to; makes them
wait, where they were left not to (O_NONBLOCK); and lets writes beyond a limit of size fail, where
they would end the program. It is to be called before anything else is opened.
@function secure_descriptors
@treturn[1] boolean whether standard input was closed
@treturn[1] boolean whether standard output was closed, or is open for reading alone
@treturn[1] boolean whether standard errors were closed, or are open for reading alone
@treturn[2] nil
@treturn[2] string the system's text, where that cannot be done
*/
static int l_secure_descriptors(lua_State *L)
{
    struct sigaction too_large;
    int fd, closed[3];
    for (fd = 0; fd <= 2; fd++) {
        int flags = fcntl(fd, F_GETFL);
        closed[fd] = flags < 0 || (fd > 0 && (flags & O_ACCMODE) == O_RDONLY);
        /* The lowest number that is free is given, and those below are taken. */
        if (flags < 0 && open("/dev/null", O_RDWR) != fd)
            return push_error(L, errno);
        /* Whoever had it before may have left it so, and reads and writes of C know no waiting. */
        if (flags >= 0 && (flags & O_NONBLOCK) != 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
            return push_error(L, errno);
    }
    /* Then a write beyond the limit of a file's size fails, and is told. What is ignored would be
       so in other programs, too, that are started from here. */
    memset(&too_large, 0, sizeof too_large);
    (void)sigemptyset(&too_large.sa_mask);
    too_large.sa_handler = do_nothing;
    too_large.sa_flags = SA_RESTART;
    (void)sigaction(SIGXFSZ, &too_large, NULL);
    for (fd = 0; fd <= 2; fd++)
        lua_pushboolean(L, closed[fd]);
    return 3;
}

/***
Names the variables of the environment that begin with some text, without their values.
@function variable_names
@tparam string prefix
@treturn {string,...} in the order of the environment
*/
static int l_variable_names(lua_State *L)
{
    size_t n, count = 0;
    const char *prefix = luaL_checklstring(L, 1, &n);
    char **one = environ;
    lua_newtable(L);
    for (; one != NULL && *one != NULL; one++) {
        const char *end = strchr(*one, '=');
        if (end == NULL || (size_t)(end - *one) < n || memcmp(*one, prefix, n) != 0)
            continue;
        lua_pushlstring(L, *one, (size_t)(end - *one));
        lua_rawseti(L, -2, (int)++count);
    }
    return 1;
}

/***
Tells who may read and write a file: its permission bits, such as 384 (0600 in octal).
@function file_mode
@tparam string path
@treturn[1] number
@treturn[2] nil
@treturn[2] string the system's text
*/
static int l_file_mode(lua_State *L)
{
    struct stat about;
    if (stat(luaL_checkstring(L, 1), &about) != 0)
        return push_error(L, errno);
    lua_pushinteger(L, (lua_Integer)(about.st_mode & 07777));
    return 1;
}

/***
Makes a new file for writing, which its owner alone may read. Nothing that is there is touched,
and no symbolic link is followed.
@function create_file
@tparam string path
@treturn[1] newfile its methods: `write(text)` and `close()`, each true, or nil and the
  system's text
@treturn[2] nil
@treturn[2] string the system's text
@treturn[2] boolean whether something is there already
*/
static int l_create_file(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    newfile *f = (newfile *)ksms_newuserdata(L, sizeof *f);
    int fd, number;
    memset(f, 0, sizeof *f);
    ksms_setclass(L, NEWFILE);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd >= 0 && (f->file = fdopen(fd, "wb")) != NULL)
        return 1;
    number = errno;
    if (fd >= 0)
        (void)close(fd);
    (void)push_error(L, number);
    lua_pushboolean(L, number == EEXIST);
    return 3;
}

static newfile *check_newfile(lua_State *L)
{
    return (newfile *)luaL_checkudata(L, 1, NEWFILE);
}

/***
Writes a text; after a failure the file is of no more use.
@function newfile:write
@tparam string text
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what the system says
*/
static int newfile_write(lua_State *L)
{
    newfile *f = check_newfile(L);
    size_t n;
    const char *text = luaL_checklstring(L, 2, &n);
    if (f->file == NULL)
        return push_error(L, EBADF);
    if (fwrite(text, 1, n, f->file) != n)
        return push_error(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/***
Closes the file. It may be called twice.
@function newfile:close
@treturn[1] boolean true
@treturn[2] nil
@treturn[2] string what the system says
*/
static int newfile_close(lua_State *L)
{
    newfile *f = check_newfile(L);
    FILE *file = f->file;
    f->file = NULL;
    if (file == NULL)
        return push_error(L, EBADF);
    if (fclose(file) != 0)
        return push_error(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

static int newfile_gc(lua_State *L)
{
    newfile *f = check_newfile(L);
    if (f->file != NULL)
        (void)fclose(f->file);
    f->file = NULL;
    return 0;
}

void ksms_open_system(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"write", newfile_write},
        {"close", newfile_close},
        {NULL, NULL},
    };
    static const luaL_Reg functions[] = {
        {"secure_descriptors", l_secure_descriptors},
        {"variable_names", l_variable_names},
        {"file_mode", l_file_mode},
        {"create_file", l_create_file},
        {NULL, NULL},
    };
    ksms_newclass(L, NEWFILE, methods, newfile_gc);
    ksms_setfuncs(L, functions);
}
