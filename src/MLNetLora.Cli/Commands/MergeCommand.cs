using System.CommandLine;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Models;

namespace MLNetLora.Cli.Commands;

/// <summary>merge: adds an adapter to its base for good.</summary>
internal static class MergeCommand
{
    private const string Description = """
        Adds an adapter to its base for good, and writes a plain Hugging Face checkpoint.

        Examples:
          mlnetlora merge --base Qwen/Qwen2.5-0.5B-Instruct --adapter out/company --out out/company/merged
        """;

    public static Command Create(Screen screen)
    {
        Option<string> model = new("--base", "--model", "-m")
        {
            Required = true,
            Description = "Base checkpoint: a folder, or a hub id in the local cache",
            HelpName = "FOLDER"
        };
        Option<string> adapter = new("--adapter", "-a") { Required = true, Description = "Adapter folder (PEFT)", HelpName = "FOLDER" };
        Option<string> target = new("--out", "--output", "-o") { Required = true, Description = "Folder for the merged checkpoint", HelpName = "FOLDER" };
        Option<string?> type = new("--dtype") { Description = "Type of the weights; default: as the base has them", HelpName = "float32|bfloat16|float16" };
        Command command = new("merge", Description) { model, adapter, target, type };
        command.SetAction((parsed, _) => Task.Run(() =>
        {
            TensorType? asked = parsed.GetValue(type) is not { } name ? null : Values.OneOf<TensorType>(
                new Given(type.Name, new ScalarValue(name, IsQuoted: false, Place.CommandLine)), ("float32", TensorType.Float32), ("fp32", TensorType.Float32),
                ("bfloat16", TensorType.BFloat16), ("bf16", TensorType.BFloat16), ("float16", TensorType.Float16), ("fp16", TensorType.Float16));
            string folder = parsed.GetValue(target)!;
            if (File.Exists(folder))
            {
                throw new ConfigException($"--out is {folder}, a file; give a folder for the merged checkpoint.");
            }

            Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(parsed.GetValue(model)!));
            LoraAdapter lora = LoraAdapter.LoadPeft(parsed.GetValue(adapter)!, checkpoint);
            foreach (string warning in lora.Warnings)
            {
                screen.WriteWarning(warning);
            }

            Merge.Save(checkpoint, lora, folder, asked, screen.Interruption.Token);
            screen.Out.WriteLine($"The merged checkpoint is in {folder}.");
            return ExitCode.Success;
        }));
        return command;
    }
}
