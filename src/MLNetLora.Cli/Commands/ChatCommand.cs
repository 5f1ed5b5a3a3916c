using System.CommandLine;
using System.Text;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Cli.Running;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Cli.Commands;

/// <summary>chat: a conversation, each answer knowing what was said before.</summary>
internal static class ChatCommand
{
    private const string Description = """
        Talks with a model, which knows what was said before. Where the questions are piped in, only the answers are written.

        Examples:
          mlnetlora chat --model out/company/model.zip
          mlnetlora chat --model Qwen/Qwen3-0.6B --adapter out/company --system-prompt "Answer briefly."

        In the chat: /reset forgets what was said, /system TEXT sets the system message, /exit ends. Ctrl-C ends an answer.
        """;

    private const string Help = "/reset forgets what was said, /system TEXT sets the system message and forgets, /exit ends; Ctrl-C ends an answer.";

    public static Command Create(Screen screen)
    {
        SettingsCommand command = new("chat", Description, CommandKinds.Chat);
        command.SetAction(async (parsed, _) =>
        {
            if (screen.IsInputClosed)
            {
                throw new ConfigException($"The standard input is closed, so nobody can ask anything. '{CommandLine.Name} generate' takes the question "
                    + "as a word of the line.");
            }

            SettingsReader reader = command.Settings.Read(parsed);
            RunSettings settings = reader.Settings();
            TrainingRun.WriteIgnored(screen, reader);
            using AnsweringModel model = await Task.Run(() => AnsweringModel.Open(screen, reader, settings));
            return await Talk(screen, model);
        });
        return command;
    }

    private static async Task<int> Talk(Screen screen, AnsweringModel model)
    {
        if (screen.IsInteractive)
        {
            screen.Out.WriteLine(screen.Dim($"{Visible.OnOneLine(model.Name)}. {Help}"));
        }

        List<ChatMessage> messages = [];
        while (true)
        {
            if (screen.IsInteractive)
            {
                screen.Out.Write(screen.Bold("> "));
                screen.Out.Flush();
            }

            string? line = (await Task.Run(screen.In.ReadLine).WaitAsync(screen.Interruption.Token))?.Trim();
            if (line is null or "/exit" or "/quit")
            {
                return ExitCode.Success;
            }

            if (line.Length == 0)
            {
                continue;
            }

            if (line == "/reset")
            {
                messages.RemoveAll(message => message.Role != "system");
            }
            else if (line == "/system" || line.StartsWith("/system ", StringComparison.Ordinal))
            {
                messages.Clear();
                if (line.Length > "/system ".Length)
                {
                    messages.Add(ChatMessage.System(line["/system ".Length..].Trim()));
                }
            }
            else if (line[0] == '/')
            {
                screen.WriteNote($"{line} is no command of the chat. {Help}");
            }
            else
            {
                await Answer(screen, model, messages, line);
            }
        }
    }

    private static async Task Answer(Screen screen, AnsweringModel model, List<ChatMessage> messages, string question)
    {
        messages.Add(ChatMessage.User(question));
        StringBuilder said = new();
        bool thinks = false;
        using CancellationTokenSource part = CancellationTokenSource.CreateLinkedTokenSource(screen.Interruption.Token);
        screen.Interruption.Part = part;
        try
        {
            await foreach (GeneratedChunk chunk in model.Engine.GenerateAsync(new Conversation(messages.ToArray()), model.Generation, part.Token))
            {
                screen.HasBegun = true;
                string shown = Visible.Of(chunk.Text);
                if (chunk.IsThinking && screen.IsInteractive)
                {
                    screen.Out.Write(screen.Dim(shown));
                }
                else if (!chunk.IsThinking)
                {
                    screen.Out.Write(thinks && said.Length == 0 && screen.IsInteractive ? Environment.NewLine + shown : shown);
                    said.Append(chunk.Text);
                }

                thinks |= chunk.IsThinking;
                screen.Out.Flush();
            }

            screen.Out.WriteLine();
            messages.Add(ChatMessage.Assistant(said.ToString()));
        }
        catch (OperationCanceledException) when (!screen.Interruption.Came)
        {
            screen.Out.WriteLine(screen.Dim(" …"));
            Forget(messages, said);
        }
        catch (MLNetLoraException error) when (error is PromptException or TemplateException or TokenizerException)
        {
            messages.RemoveAt(messages.Count - 1);
            screen.Out.WriteLine();
            screen.WriteError($"{error.Message} /reset begins anew.");
        }
        finally
        {
            screen.Interruption.Part = null;
        }
    }

    // What was said of an answer that was ended belongs to the conversation; a question without any does not.
    private static void Forget(List<ChatMessage> messages, StringBuilder said)
    {
        if (said.Length > 0)
        {
            messages.Add(ChatMessage.Assistant(said.ToString()));
        }
        else
        {
            messages.RemoveAt(messages.Count - 1);
        }
    }
}
