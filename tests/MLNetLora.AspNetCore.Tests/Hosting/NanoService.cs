using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using MLNetLora.Inference;
using MLNetLora.Tests;
using MLNetLora.Text;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>A service with the nano model under the name support.</summary>
internal static class NanoService
{
    public const string Base = "support";

    /// <summary>Starts it, and waits until it is ready.</summary>
    public static async Task<TestService> StartAsync(
        Action<ServedModelOptions>? model = null, Action<ServingOptions>? options = null, Action<IServiceCollection>? services = null)
    {
        TestService service = await TestService.StartAsync(
            options,
            services: all =>
            {
                services?.Invoke(all);
                all.AddMLNetLora(Base, served =>
                {
                    served.ModelPath = Repository.Nano;
                    served.Threads = 1;
                    served.WatchPeriod = TimeSpan.FromMilliseconds(20);
                    model?.Invoke(served);
                });
            },
            map: application => application.MapMLNetLoraAdapters());
        await service.Get<ServingHost>().Models[0].Ready;
        return service;
    }

    /// <summary>What a model answers; null where none of the name is served.</summary>
    public static string? Answer(TestService service, string name)
    {
        using ModelLease? lease = service.Get<ModelRegistry>().Lease(name);
        return lease is null ? null : Answer(lease.Generator);
    }

    /// <summary>What a generator answers.</summary>
    public static string Answer(TextGenerator generator) =>
        generator.Generate([new InstructionRow("Who are you?")], new GenerationOptions { MaximumNewTokens = 8, Temperature = 0 })[0].Text;

    /// <summary>What an adapter has to answer.</summary>
    public static string Expected(string adapter)
    {
        Models.Checkpoint checkpoint = Models.Checkpoint.Open(Repository.Nano);
        using TextGenerator generator = new(checkpoint, Adapters.LoraAdapter.LoadPeft(adapter, checkpoint), threads: 1);
        return Answer(generator);
    }

    /// <summary>The names of all models.</summary>
    public static IEnumerable<string> Names(TestService service) => service.Get<ModelRegistry>().Models.Select(model => model.Name);
}
