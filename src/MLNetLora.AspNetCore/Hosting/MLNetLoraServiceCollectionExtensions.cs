using Microsoft.Extensions.AI;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Options;
using MLNetLora;
using MLNetLora.AspNetCore;

namespace Microsoft.Extensions.DependencyInjection;

/// <summary>Registers models with an application.</summary>
public static class MLNetLoraServiceCollectionExtensions
{
    private const string ModelsKey = "Models";

    /// <summary>Serves a base model and its adapters. It is loaded in the background when the application starts.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="name">Under which the base is asked for.</param>
    /// <param name="configure">Sets the options; what is wrong with them ends the start, with a sentence for each.</param>
    /// <returns>The services.</returns>
    /// <exception cref="OptionException">A model of the name was registered before.</exception>
    public static IServiceCollection AddMLNetLora(this IServiceCollection services, string name, Action<ServedModelOptions> configure)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(configure);
        Add(services, name).Configure(configure);
        return services;
    }

    /// <summary>Serves a base model and its adapters, as a section of a configuration says, whose keys are the names of <see cref="ServedModelOptions"/>.
    /// A key that is none of them ends the start.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="name">Under which the base is asked for.</param>
    /// <param name="section">The section of this model.</param>
    /// <returns>The services.</returns>
    /// <exception cref="OptionException">A model of the name was registered before.</exception>
    public static IServiceCollection AddMLNetLora(this IServiceCollection services, string name, IConfiguration section)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(section);
        Add(services, name).Configure(options => Settings.Bind(section, options, name));
        return services;
    }

    /// <summary>Serves all that a section says: each child of its "Models" is a model, the rest are the <see cref="ServingOptions"/>.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="section">The section, such as configuration.GetSection("MLNetLora").</param>
    /// <returns>The services.</returns>
    /// <exception cref="OptionException">A key is none of the options, or there is no model.</exception>
    public static IServiceCollection AddMLNetLora(this IServiceCollection services, IConfiguration section)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(section);
        string[] known = [ModelsKey, .. typeof(ServingOptions).GetProperties().Select(property => property.Name)];
        if (section.GetChildren().FirstOrDefault(child => !known.Contains(child.Key, StringComparer.OrdinalIgnoreCase)) is { } unknown)
        {
            throw new OptionException($"The configuration has {unknown.Path}, which is none of the settings: {string.Join(", ", known)}.");
        }

        IConfigurationSection[] models = [.. section.GetSection(ModelsKey).GetChildren()];
        if (models.Length == 0)
        {
            string path = section is IConfigurationSection { Path: { Length: > 0 } at } ? $"{at}:{ModelsKey}" : ModelsKey;
            throw new OptionException($"The configuration has no model: {path}:NAME:{nameof(ServedModelOptions.ModelPath)} is not set.");
        }

        foreach (IConfigurationSection model in models)
        {
            services.AddMLNetLora(model.Key, model);
        }

        services.Configure<ServingOptions>(options => Settings.Bind(section, options, Microsoft.Extensions.Options.Options.DefaultName, ModelsKey));
        return services;
    }

    /// <summary>Serves the model of a zip, which is loaded when the application starts, and again when another file is put in its place. It is injected as
    /// <see cref="ServedModelFile"/>; MapPredict gives it an endpoint.</summary>
    /// <param name="services">The application's services.</param>
    /// <param name="path">The zip.</param>
    /// <param name="name">Tells several files apart: the key of the service, and the model's name in metrics.</param>
    /// <param name="configure">Sets further options; null for none.</param>
    /// <returns>The services.</returns>
    /// <exception cref="OptionException">A file of the name was registered before.</exception>
    public static IServiceCollection AddMLNetLoraModelFile(
        this IServiceCollection services, string path, string name = "default", Action<ModelFileOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(path);
        ArgumentNullException.ThrowIfNull(name);
        if (services.Any(service => service.ImplementationInstance is RegisteredModelFile file && file.Name == name))
        {
            throw new OptionException($"A model file '{name}' was registered before; each needs a name of its own.");
        }

        ServingServices.Add(services);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<ModelFileOptions>, ModelFileOptionsCheck>());
        services.AddSingleton(new RegisteredModelFile(name));
        services.AddOptions<ModelFileOptions>(name).ValidateOnStart().Configure(options =>
        {
            options.Path = path;
            configure?.Invoke(options);
        });
        services.AddKeyedSingleton(name, (provider, _) => new ServedModelFile(
            name, provider.GetRequiredService<IOptionsMonitor<ModelFileOptions>>().Get(name), provider.GetRequiredService<HostServices>()));
        services.TryAddSingleton(provider => provider.GetRequiredKeyedService<ServedModelFile>(name));
        return services;
    }

    private static OptionsBuilder<ServedModelOptions> Add(IServiceCollection services, string name)
    {
        if (services.Any(service => service.ImplementationInstance is RegisteredModel model && model.Name == name))
        {
            throw new OptionException($"A model '{name}' was registered before; each needs a name of its own.");
        }

        ServingServices.Add(services);
        services.TryAddEnumerable(ServiceDescriptor.Singleton<IValidateOptions<ServedModelOptions>, ServedModelOptionsCheck>());
        services.AddSingleton(new RegisteredModel(name));
        services.AddKeyedSingleton<IChatClient>(
            name,
            (provider, _) => new ServedChatClient(name, provider.GetRequiredService<ServingHost>(), provider.GetRequiredService<ModelRegistry>()));
        return services.AddOptions<ServedModelOptions>(name).ValidateOnStart();
    }
}
