// Holds the pack's agents to their shell rules where OpenCode asks none of them.
//
// OpenCode 1.18 judges the commands of a shell line, one by one. It judges neither where a group of commands or no command at all
// is redirected to (`{ git status; } > file`, `> file`), nor what is no command to its parser: `export`, an assignment, a test, a
// definition; and its parser takes some lines of two commands for one. So of an agent whose rules do not allow every command, only a
// line of one plain command is let through to those rules.
//
// Loaded by: OpenCode, as a plugin. Must never: judge agents of other names than the pack's, or run, change or keep a command.

const OURS = (
  "documentation executor implementer init model-config orchestrator research shipper task-planner test-writer validator"
).split(" ")

// Words that begin something else than a command that is judged.
const NO_COMMAND = new Set(
  ("if then else elif fi for select while until do done case esac in function time coproc " +
    "declare typeset export readonly local unset unsetenv").split(" "),
)

// Quotations, and signs that mean themselves, become a letter; a comment could hide an open quotation, so it is odd.
const bare = (line) =>
  line.replace(/'[^']*'|"(?:[^"\\$`]|\\[^])*"|\\[ -~]|(?<=^|[ \t])#/g, (text) => (text === "#" ? "`" : "q"))

// Redirections that write no file.
const HARMLESS = /\d?>&[12](?=$|[ \t])|[\d&]?>>?[ \t]*\/dev\/null(?=$|[ \t])|<[ \t]*\/dev\/null(?=$|[ \t])/g

// What keeps a line from being one plain command; nothing when it is one. Where one command ends and the next begins OpenCode's
// parser and the shell do not always agree, and what is white space neither.
const oddity = (line) => {
  const text = bare(line)
  if (/[^\t -~]/.test(text)) return "another line, or a sign that is not printable ASCII"
  if (/["'`$\\]/.test(text)) return "a comment, an open quotation or a substitution"
  const rest = text.replace(HARMLESS, " ")
  const sign = rest.match(/[<>(){};&|]/)
  if (sign) return `a redirection, a group or a second command (\`${sign[0]}\`)`
  const word = rest.trim().split(/[ \t]/)[0]
  return (NO_COMMAND.has(word) || !/^[\w./+-]*$/.test(word)) && `\`${word}\` in the place of a command`
}

// Which agent calls: the message says it that holds the call. In OpenCode 1.2 no message holds it yet, and the newest is meant.
const caller = async (client, sessionID, callID) => {
  const { data } = await client.session.messages({ path: { id: sessionID }, query: { limit: 20 } })
  const holds = ({ parts }) => parts.some((part) => part.callID === callID)
  const message = data?.findLast(holds) ?? data?.findLast(({ info }) => info.role === "assistant")
  return message?.info.agent
}

// Whether an agent's rules, as OpenCode has them, allow every command.
const mayRunAll = async (client, name) => {
  const { data } = await client.app.agents()
  const rules = data?.find((agent) => agent.name === name)?.permission ?? []
  const base = rules.findLast(({ permission, pattern }) => ["*", "bash"].includes(permission) && pattern === "*")
  return base?.action === "allow"
}

export const DxRunner = async ({ client }) => ({
  "tool.execute.before": async ({ tool, sessionID, callID }, { args }) => {
    const odd = tool === "bash" && oddity(String(args?.command ?? ""))
    if (!odd) return
    const agent = await caller(client, sessionID, callID)
    // Whoever cannot be told is held to be one of ours.
    if (agent !== undefined && (!OURS.includes(agent) || (await mayRunAll(client, agent)))) return
    throw new Error(
      `Refused by the boundary of this role: its shell runs one plain command at a time, and there is ${odd}. ` +
        "Give each command by itself, name another folder as `workdir`, put signs that are meant literally between single quotes, and write files with the tools for that.",
    )
  },
})
