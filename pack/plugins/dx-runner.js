// Holds the pack's agents to their shell rules where OpenCode asks none of them.
//
// OpenCode 1.18 judges the commands of a shell line, one by one. It judges neither where a group of commands or no command at all
// is redirected to (`{ git status; } > file`, `> file`), nor what is no command to its parser: `export`, an assignment, a test, a
// definition. So of an agent whose rules do not allow every command, only a line of plain commands is let through to those rules.
//
// Loaded by: OpenCode, as a plugin. Must never: judge agents that are not the pack's, or run, change or keep a command.

const OURS = (
  "documentation executor implementer init model-config orchestrator research shipper task-planner test-writer validator"
).split(" ")

// Words that begin something else than a command that is judged.
const NO_COMMAND = new Set(
  ("if then else elif fi for select while until do done case esac in function time coproc " +
    "declare typeset export readonly local unset unsetenv").split(" "),
)

// Quotations, and characters that mean themselves, become a letter; a comment could hide an open quotation, so it is odd.
const bare = (line) =>
  line.replace(/'[^']*'|"(?:[^"\\$`]|\\[^])*"|\\[^]|(?<=^|[\s;&|])#/g, (text) =>
    text === "#" ? "`" : text === "\\\n" ? "" : "q",
  )

// Redirections that write no file.
const HARMLESS = /\d?>&[12](?=$|[\s;&|])|[\d&]?>>?\s*\/dev\/null(?=$|[\s;&|])|<\s*\/dev\/null(?=$|[\s;&|])/g

// What in a line is not a plain command; nothing when all is.
const oddity = (line) => {
  const text = bare(line)
  const sign = text.match(/["'`$\\]/)
  if (sign) return "a comment, an open quotation or a substitution"
  const rest = text.replace(HARMLESS, " ")
  const group = rest.match(/[<>(){}]/)
  if (group) return `a redirection or a group (\`${group[0]}\`)`
  const words = rest.split(/[;&|\n]/).map((part) => part.trim().split(/\s/)[0])
  const word = words.find((word) => word && (NO_COMMAND.has(word) || !/^[\w./+-]+$/.test(word)))
  return word && `\`${word}\` in the place of a command`
}

// Which agent calls: the message says it that holds the call.
const caller = async (client, sessionID, callID) => {
  const { data } = await client.session.messages({ path: { id: sessionID }, query: { limit: 20 } })
  return data?.findLast(({ parts }) => parts.some((part) => part.callID === callID))?.info.agent
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
      `Refused by the boundary of this role: its shell runs plain commands, and there is ${odd}. ` +
        "Give each command by itself, put signs that are meant literally between single quotes, and write files with the tools for that.",
    )
  },
})
