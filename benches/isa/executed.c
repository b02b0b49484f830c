/* A plugin of qemu-user that counts the instructions that a program runs: all, and those whose text begins with a word of the arguments
 * (`prefix=fmla`). Declarations as in QEMU's qemu-plugin.h, version 1, which Debian does not package.
 *
 *   cc -O2 -shared -fPIC -o executed.so benches/isa/executed.c
 *   qemu-aarch64 -plugin executed.so,prefix=fmla -d plugin PROGRAM
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef uint64_t qemu_plugin_id_t;
typedef void (*tb_trans_cb)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*exit_cb)(qemu_plugin_id_t, void *);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, tb_trans_cb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *, uint64_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, exit_cb, void *);
void qemu_plugin_outs(const char *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { ADD_U64 = 0, MOST = 16 };
static uint64_t all, counts[MOST];
static const char *prefixes[MOST];
static int kinds;

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    size_t n = qemu_plugin_tb_n_insns(tb);
    uint64_t own[MOST] = {0};
    for (size_t i = 0; i < n; i++) {
        char *text = qemu_plugin_insn_disas(qemu_plugin_tb_get_insn(tb, i));
        for (int k = 0; text && k < kinds; k++)
            own[k] += strncmp(text, prefixes[k], strlen(prefixes[k])) == 0;
        free(text);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &all, n);
    for (int k = 0; k < kinds; k++)
        if (own[k])
            qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &counts[k], own[k]);
}

static void ended(qemu_plugin_id_t id, void *data)
{
    char line[128];
    snprintf(line, sizeof line, "executed: %" PRIu64, all);
    qemu_plugin_outs(line);
    for (int k = 0; k < kinds; k++) {
        snprintf(line, sizeof line, ", %s %" PRIu64, prefixes[k], counts[k]);
        qemu_plugin_outs(line);
    }
    qemu_plugin_outs("\n");
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    for (int k = 0; k < argc && kinds < MOST; k++)
        if (strncmp(argv[k], "prefix=", 7) == 0)
            prefixes[kinds++] = strdup(argv[k] + 7);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
