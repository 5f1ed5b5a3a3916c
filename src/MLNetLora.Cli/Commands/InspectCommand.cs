using System.CommandLine;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Cli.Inspection;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Commands;

/// <summary>inspect: what a checkpoint, an adapter or a model zip is.</summary>
internal static class InspectCommand
{
    private const string Description = """
        Shows what a checkpoint, an adapter or a model zip is: architecture, parameters, types, and the layers that LoRA can be put on.

        Examples:
          mlnetlora inspect Qwen/Qwen2.5-0.5B-Instruct
          mlnetlora inspect out/company/adapter
          mlnetlora inspect out/company/model.zip --json
        """;

    private static readonly JsonSerializerOptions s_json = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static Command Create(Screen screen)
    {
        Argument<string> path = new("PATH") { Description = "A folder, a hub id in the local cache, or a model zip" };
        Option<bool> json = new("--json") { Description = "As JSON" };
        Command command = new("inspect", Description) { path, json };
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            JsonObject found = Inspector.Look(parsed.GetValue(path)!);
            if (parsed.GetValue(json))
            {
                screen.Out.WriteLine(found.ToJsonString(s_json));
            }
            else
            {
                InspectionText.Write(screen, found);
            }

            return ExitCode.Success;
        }));
        return command;
    }
}
