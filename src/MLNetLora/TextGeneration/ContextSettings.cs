using System.Runtime.CompilerServices;
using Microsoft.ML;
using Microsoft.ML.Runtime;

namespace MLNetLora.TextGeneration;

/// <summary>What this library remembers per MLContext.</summary>
/// <remarks>ML.NET hands loaders a host made from the context, not the context; the component catalog is what both share, so it is the key.</remarks>
internal sealed class ContextSettings
{
    private static readonly ConditionalWeakTable<ComponentCatalog, ContextSettings> s_settings = [];

    /// <summary>Folders and hub ids where base checkpoints of loaded models are looked for first; replaced as a whole, so that readers need no lock.</summary>
    public IReadOnlyList<string> BaseFolders { get; set; } = [];

    public static ContextSettings Of(IHostEnvironment environment) => s_settings.GetOrCreateValue(environment.ComponentCatalog);
}
