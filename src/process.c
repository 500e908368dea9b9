/*
** process.c - runs one command on behalf of this program: with an environment
** of its own, with the signals that are meant for it, and with its status
** passed on. Without a command it only waits for the signals. What happens
** between two waits is kept for the next one, so that none is missed.
*/
#if defined(__linux__)
#define _GNU_SOURCE
#else
#define _POSIX_C_SOURCE 200809L
#define _DARWIN_C_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/select.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "koresms.h"

#define SUPERVISOR "koresms.supervisor"

extern char **environ;

/* SIGCHLD ends a wait; the others ask this program to end. */
static const int watched[] = {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT};

#define WATCHED (sizeof watched / sizeof watched[0])

/* Longest name of a variable that is looked up among the changes. */
#define NAME_MAX_OURS 255

typedef struct supervisor {
    int open;
    pid_t child; /* 0 where there is none, or none any more */
    int caught[WATCHED];
    struct sigaction before[WATCHED];
    sigset_t mask; /* what was blocked before */
    int status;    /* of the child, once it ended */
    int ended;
} supervisor;

/* Signals belong to the process. They are blocked but for a wait, so that the
   handler runs nowhere else. */
static int supervising;
static volatile sig_atomic_t received;
static volatile sig_atomic_t sent_by_process;

static void receive(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (number == SIGCHLD)
        return;
    received = number;
    /* What the terminal sends, the command gets from the terminal, too. */
    sent_by_process = info != NULL && info->si_code <= 0;
}

static int catch_signals(supervisor *s)
{
    struct sigaction ours;
    sigset_t blocked;
    size_t i;
    memset(&ours, 0, sizeof ours);
    (void)sigfillset(&ours.sa_mask);
    ours.sa_sigaction = receive;
    ours.sa_flags = SA_SIGINFO | SA_NOCLDSTOP;
    (void)sigemptyset(&blocked);
    for (i = 0; i < WATCHED; i++)
        (void)sigaddset(&blocked, watched[i]);
    if (sigprocmask(SIG_BLOCK, &blocked, &s->mask) != 0)
        return 0;
    s->open = supervising = 1;
    received = sent_by_process = 0;
    for (i = 0; i < WATCHED; i++) {
        if (sigaction(watched[i], NULL, &s->before[i]) != 0)
            continue;
        /* What is ignored stays ignored, as for a program in the background. */
        if (s->before[i].sa_handler == SIG_IGN && watched[i] != SIGCHLD)
            continue;
        s->caught[i] = sigaction(watched[i], &ours, NULL) == 0;
    }
    return 1;
}

static void restore_signals(supervisor *s)
{
    size_t i;
    for (i = 0; i < WATCHED; i++)
        if (s->caught[i])
            (void)sigaction(watched[i], &s->before[i], NULL);
    (void)sigprocmask(SIG_SETMASK, &s->mask, NULL);
}

/* Collects the child where it has ended. */
static void collect(supervisor *s)
{
    int status;
    pid_t pid;
    if (s->child == 0)
        return;
    do
        pid = waitpid(s->child, &status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return;
    s->child = 0;
    s->ended = 1;
    if (pid < 0)
        s->status = 127;
    else if (WIFSIGNALED(status))
        s->status = 128 + WTERMSIG(status);
    else
        s->status = WEXITSTATUS(status);
}

/* Ends the command, and puts the signals back. Works on a zeroed supervisor
   and twice. */
static void shut(supervisor *s)
{
    if (!s->open)
        return;
    s->open = 0;
    collect(s);
    if (s->child != 0)
        (void)kill(s->child, SIGTERM);
    s->child = 0;
    restore_signals(s);
    supervising = 0;
}

/***
Ends the command, if it runs, and puts signals back; also the finalizer. It may be called twice.
@function supervisor:close
*/
static int supervisor_close(lua_State *L)
{
    shut((supervisor *)luaL_checkudata(L, 1, SUPERVISOR));
    return 0;
}

/*
** The array of pointers that execve takes, as a userdata on top of the stack;
** the texts are those of the table at 'index', which keeps them.
*/
static char **pointers(lua_State *L, int index)
{
    size_t i, n = ksms_rawlen(L, index);
    char **array = (char **)ksms_newuserdata(L, (n + 1) * sizeof *array);
    for (i = 0; i < n; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        /* Never written to: execve's type is older than const. */
        memcpy(&array[i], &(const char *){lua_tostring(L, -1)}, sizeof array[i]);
        lua_pop(L, 1);
    }
    array[n] = NULL;
    return array;
}

/* Whether the changes at 'index' name the variable of this NAME=value. */
static int is_changed(lua_State *L, int index, const char *entry)
{
    const char *equals = strchr(entry, '=');
    int changed;
    if (equals == NULL || equals - entry > NAME_MAX_OURS)
        return 0;
    lua_pushlstring(L, entry, (size_t)(equals - entry));
    lua_rawget(L, index);
    changed = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return changed;
}

/* Leaves a table of NAME=value: this program's environment with the changes. */
static void push_environment(lua_State *L, int changes)
{
    int n = 0;
    char **entry;
    lua_newtable(L);
    for (entry = environ; entry != NULL && *entry != NULL; entry++)
        if (!is_changed(L, changes, *entry)) {
            lua_pushstring(L, *entry);
            lua_rawseti(L, -2, ++n);
        }
    lua_pushnil(L);
    while (lua_next(L, changes) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING && lua_type(L, -1) == LUA_TSTRING) {
            lua_pushfstring(L, "%s=%s", lua_tostring(L, -2), lua_tostring(L, -1));
            lua_rawseti(L, -4, ++n);
        }
        lua_pop(L, 1);
    }
}

static void check_words(lua_State *L, int index)
{
    size_t i, n;
    luaL_checktype(L, index, LUA_TTABLE);
    n = ksms_rawlen(L, index);
    luaL_argcheck(L, n > 0, index, "a command has at least one word");
    for (i = 1; i <= n; i++) {
        lua_rawgeti(L, index, (int)i);
        luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, index, "each word is a string");
        lua_pop(L, 1);
    }
}

/* The child, up to the command. What fails is told through the pipe. */
static void run_command(const supervisor *s, char **words, char **variables, int out, pid_t parent)
{
    size_t i;
    int problem;
    for (i = 0; i < WATCHED; i++)
        if (s->caught[i])
            (void)sigaction(watched[i], &s->before[i], NULL);
    (void)sigprocmask(SIG_SETMASK, &s->mask, NULL);
#if defined(__linux__)
    /* Where this program is killed, the command is asked to end. */
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
#else
    (void)parent;
#endif
    environ = variables;
    (void)execvp(words[0], words);
    problem = errno;
    /* A write so small is whole, or the parent is gone. */
    if (write(out, &problem, sizeof problem) < 0)
        _exit(126);
    _exit(127);
}

/* What the child said before it became the command: 0, or why it could not. */
static int read_problem(int in)
{
    int problem = 0;
    ssize_t n;
    do
        n = read(in, &problem, sizeof problem);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof problem ? problem : 0;
}

static int start(supervisor *s, char **words, char **variables)
{
    int ends[2], problem;
    pid_t parent = getpid();
    if (pipe(ends) != 0)
        return errno;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    s->child = fork();
    if (s->child == 0)
        run_command(s, words, variables, ends[1], parent);
    problem = s->child < 0 ? errno : 0;
    (void)close(ends[1]);
    if (problem == 0)
        problem = read_problem(ends[0]);
    (void)close(ends[0]);
    if (problem != 0 && s->child > 0)
        while (waitpid(s->child, NULL, 0) < 0 && errno == EINTR)
            ;
    if (problem != 0)
        s->child = 0;
    return problem;
}

/***
Runs a command, found as the shell finds it, with this program's standard input and outputs;
or, without one, only catches signals. SIGINT, SIGTERM, SIGHUP and SIGQUIT no longer end this
program; those that another process sent are passed on to the command. There is one
supervisor at a time.
@function supervise
@tparam ?{string,...} words the command
@tparam ?table changes of the environment: a value for a name, or false for none
@treturn supervisor `wait`, `signal` and `close`
@treturn nil,string,string text, and "missing" where there is no such command, else "failed"
*/
static int l_supervise(lua_State *L)
{
    supervisor *s;
    int command = !lua_isnoneornil(L, 1), problem;
    if (command) {
        check_words(L, 1);
        luaL_checktype(L, 2, LUA_TTABLE);
    }
    lua_settop(L, 2);
    s = (supervisor *)ksms_newuserdata(L, sizeof *s);
    memset(s, 0, sizeof *s);
    ksms_setclass(L, SUPERVISOR);
    if (command)
        push_environment(L, 2);
    else
        lua_newtable(L);
    {
        char **words = command ? pointers(L, 1) : NULL;
        char **variables = pointers(L, 4);
        /* Asked last: a finalizer may have made one while memory was taken. */
        if (supervising)
            return luaL_error(L, "there is a supervisor already");
        if (!catch_signals(s))
            return luaL_error(L, "signals cannot be caught");
        problem = command ? start(s, words, variables) : 0;
    }
    lua_settop(L, 3);
    if (problem == 0)
        return 1;
    shut(s);
    lua_pushstring(L, strerror(problem));
    return ksms_fail(L, problem == ENOENT ? "missing" : "failed");
}

static supervisor *check(lua_State *L)
{
    supervisor *s = (supervisor *)luaL_checkudata(L, 1, SUPERVISOR);
    if (!s->open)
        luaL_error(L, "this supervisor was closed");
    return s;
}

/***
Waits for the command's end or for a signal, at most so long.
@function supervisor:wait
@tparam number seconds
@treturn ?number the command's exit status, 128 + n where signal n ended it; nil where it runs
@treturn ?number the signal that asked this program to end, told once
*/
static int supervisor_wait(lua_State *L)
{
    supervisor *s = check(L);
    lua_Number seconds = luaL_checknumber(L, 2);
    luaL_argcheck(L, seconds >= 0 && seconds <= 3600, 2, "0 to 3600 seconds");
    collect(s);
    if (!s->ended) {
        struct timespec limit;
        limit.tv_sec = (time_t)seconds;
        limit.tv_nsec = (long)((seconds - (lua_Number)limit.tv_sec) * 1e9);
        /* Unblocks the signals and waits in one step. */
        (void)pselect(0, NULL, NULL, NULL, &limit, &s->mask);
        collect(s);
    }
    if (s->ended)
        lua_pushinteger(L, s->status);
    else
        lua_pushnil(L);
    if (received != 0) {
        lua_pushinteger(L, (lua_Integer)received);
        if (sent_by_process && s->child != 0)
            (void)kill(s->child, (int)received);
        received = 0;
        return 2;
    }
    return 1;
}

/***
Sends the command a signal; does nothing where there is none.
@function supervisor:signal
@tparam string name "TERM" or "KILL"
*/
static int supervisor_signal(lua_State *L)
{
    static const char *const names[] = {"TERM", "KILL", NULL};
    static const int numbers[] = {SIGTERM, SIGKILL};
    supervisor *s = check(L);
    int which = luaL_checkoption(L, 2, NULL, names);
    if (s->child != 0)
        (void)kill(s->child, numbers[which]);
    return 0;
}

/* Leaves the module table on top, with this function in it. */
void ksms_open_process(lua_State *L)
{
    static const luaL_Reg methods[] = {{"wait", supervisor_wait},
                                       {"signal", supervisor_signal},
                                       {"close", supervisor_close},
                                       {NULL, NULL}};
    ksms_newclass(L, SUPERVISOR, methods, supervisor_close);
    lua_pushcfunction(L, l_supervise);
    lua_setfield(L, -2, "supervise");
}
