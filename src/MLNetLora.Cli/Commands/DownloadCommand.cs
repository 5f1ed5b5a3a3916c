using System.CommandLine;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Commands;

/// <summary>download: brings a model into the Hugging Face cache of this machine.</summary>
internal static class DownloadCommand
{
    private const string Description = """
        Downloads a model into the Hugging Face cache of this machine, where Python's tools find it too. What is there already is not asked for again, and a
        download that was cut goes on where it stopped. HF_TOKEN and the other variables of huggingface_hub count.

        Examples:
          mlnetlora download Qwen/Qwen2.5-0.5B-Instruct
          mlnetlora download Qwen/Qwen3-0.6B --endpoint https://hf-mirror.com
          mlnetlora download Qwen/Qwen3-0.6B --source modelscope
        """;

    public static Command Create(Screen screen)
    {
        Argument<string> model = new("MODEL") { Description = "OWNER/NAME, or OWNER/NAME@REVISION" };
        Option<string?> source = new("--source")
        {
            HelpName = "huggingface|modelscope",
            Description = "Where from; default: huggingface, or as USE_MODELSCOPE_HUB says"
        };
        source.CompletionSources.Add("huggingface", "modelscope");
        Option<string?> endpoint = new("--endpoint") { HelpName = "ADDRESS", Description = "The site or a mirror of it; default: as HF_ENDPOINT says" };
        Option<string?> cache = new("--cache") { HelpName = "FOLDER", Description = "The cache; default: as HF_HUB_CACHE and HF_HOME say" };
        Option<int?> connections = new("--connections") { HelpName = "N", Description = "Connections at once" };
        Option<bool> offline = new("--offline") { Description = "Asks no network: says where the cache has the model, or fails" };
        Command command = new("download", Description) { model, source, endpoint, cache, connections, offline };
        command.SetAction(async (parsed, _) =>
        {
            HubDownloadOptions options = new()
            {
                Source = parsed.GetValue(source) is not { } name ? null : Values.OneOf<HubSource>(
                    new Given(source.Name, new ScalarValue(name, IsQuoted: false, Place.CommandLine)),
                    ("huggingface", HubSource.HuggingFace), ("modelscope", HubSource.ModelScope)),
                Endpoint = parsed.GetValue(endpoint),
                CacheFolder = parsed.GetValue(cache),
                Offline = parsed.GetValue(offline) ? true : null,
            };
            options.Connections = parsed.GetValue(connections) ?? options.Connections;
            DownloadLine line = new(screen);
            screen.Interruption.Noticed = () => screen.Error.WriteLine($"{Environment.NewLine}Stopping; what has arrived is kept.");
            try
            {
                string folder = await ModelHub.DownloadAsync(parsed.GetValue(model)!, options, line, screen.Interruption.Token);
                line.End();
                screen.Out.WriteLine(folder);
                return ExitCode.Success;
            }
            catch (Exception)
            {
                line.End();
                throw;
            }
        });
        return command;
    }
}
