using Microsoft.Extensions.Options;
using MLNetLora;
using MLNetLora.AspNetCore;
using OpenTelemetry.Metrics;

try
{
    WebApplicationBuilder builder = WebApplication.CreateBuilder(args);
    builder.WebHost.ConfigureKestrel(server => server.AddServerHeader = false);

    // What is served stands in the section MLNetLora: in appsettings.json, or in variables such as MLNetLora__Models__support__ModelPath.
    IConfigurationSection section = builder.Configuration.GetSection("MLNetLora");
    if (!section.GetSection("Models").GetChildren().Any())
    {
        builder.Configuration["MLNetLora:Models:qwen3-nano:ModelPath"] = Path.Combine(AppContext.BaseDirectory, "qwen3-nano");
    }

    builder.Services.AddMLNetLora(section);

    // A model.zip of ML.NET, if there is one, answers at /predict.
    string? modelFile = builder.Configuration["ModelFile"];
    if (modelFile is not null)
    {
        builder.Services.AddMLNetLoraModelFile(modelFile);
    }

    builder.Services.AddOpenTelemetry().WithMetrics(metrics => metrics
        .AddMeter(ServingTelemetry.MeterName, "Microsoft.AspNetCore.Hosting", "Microsoft.AspNetCore.Server.Kestrel", "System.Runtime")
        .AddView("dotnet.assembly.count", MetricStreamConfiguration.Drop) // names that Prometheus keeps for histograms
        .AddView("dotnet.process.cpu.count", MetricStreamConfiguration.Drop)
        .AddView("dotnet.timer.count", MetricStreamConfiguration.Drop)
        .AddPrometheusExporter());

    WebApplication app = builder.Build();
    app.MapMLNetLoraHealth();
    app.MapOpenAI();
    app.MapMLNetLoraAdapters();
    app.MapMLNetLoraPage();
    app.MapPrometheusScrapingEndpoint();
    if (modelFile is not null)
    {
        app.MapPredict();
    }

    app.Run();
}
catch (Exception e) when (e is OptionException or OptionsValidationException)
{
    // Whoever wrote the settings wants to know what is wrong with them, and not where that was found.
    IEnumerable<string> sentences = e is OptionsValidationException { Failures: { } failures } ? failures : [e.Message];
    await Console.Error.WriteLineAsync($"The settings are wrong:\n  {string.Join("\n  ", sentences)}");
    return 1;
}

return Environment.ExitCode;
